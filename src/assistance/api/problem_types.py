"""Every kind of refusal of the API: its stable code, its HTTP status, what it means and what to do (RFC 9457).

The same registry makes the answers, the pages at `/problems/<code>` and docs/problems.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ProblemType:
    """One kind of refusal. `retryable` says that the same call may succeed later, unchanged."""

    code: str
    title: str
    http_status: int
    meaning: str
    remedy: str
    retryable: bool = False


BAD_REQUEST = ProblemType(
    code="bad-request",
    title="The request is not valid HTTP",
    http_status=400,
    meaning="Something in the request line or the headers cannot be understood, such as a missing Host.",
    remedy="Send the request with a maintained HTTP library and do not build headers by hand.",
)
MALFORMED_JSON = ProblemType(
    code="malformed-json",
    title="The body is not valid JSON",
    http_status=400,
    meaning="The body is not one JSON value in UTF-8. A byte order mark, a repeated member name, NaN, Infinity, a "
    "number of more than 100 characters and nesting deeper than 16 levels are refused as well.",
    remedy="Let a JSON library write the body and send it as UTF-8. The detail says what was found, and where.",
)
INVALID_PARAMETER = ProblemType(
    code="invalid-parameter",
    title="A parameter cannot be understood",
    http_status=400,
    meaning="A parameter in the query is unknown here, occurs twice or has no value that makes sense; or Last-Event-ID "
    "is no id of an event. The detail names it.",
    remedy="Correct the parameter. In a query, + is a space: write the offset of a time as Z or with %2B.",
)
BODY_TRUNCATED = ProblemType(
    code="body-truncated",
    title="The body is shorter than announced",
    http_status=400,
    meaning="Fewer bytes arrived than Content-Length announced. Nothing was stored.",
    remedy="Send the request again; compute Content-Length from the encoded bytes, not from the characters.",
)
IDEMPOTENCY_KEY_INVALID = ProblemType(
    code="idempotency-key-invalid",
    title="The Idempotency-Key cannot be used",
    http_status=400,
    meaning="The header has to hold exactly one key of 1 to 255 characters: a quoted string of printable ASCII, or a "
    "bare token that starts with a letter, a digit or * and goes on with letters, digits and !#$%&'*+-.^_`|~:/ only. "
    "A key means the same with and without the quotes.",
    remedy='Send a UUID, for example Idempotency-Key: "8e03978e-40d5-43e8-bc93-6894a57f9324".',
)
UNAUTHENTICATED = ProblemType(
    code="unauthenticated",
    title="Who calls is not known",
    http_status=401,
    meaning="The call came without a credential, or with one that is malformed, unknown, expired or revoked. Which of "
    "them is told to nobody but the operator.",
    remedy="Send Authorization: Bearer and the API key, or a JSON Web Token of a configured issuer. A credential in "
    "the URL counts for nothing. If you did, ask the operator for a new key.",
)
SIGNATURE_REFUSED = ProblemType(
    code="signature-refused",
    title="The signature is not right",
    http_status=401,
    meaning="The message to this source is not signed, or signed with another secret, or too old, or not the one that "
    "was signed. Which of them is told to nobody. Nothing was stored.",
    remedy="Sign the exact bytes of the body with the secret of the source, as its scheme asks, within five minutes of "
    "sending. The operator's page about signed sources has an example.",
)
FORBIDDEN = ProblemType(
    code="forbidden",
    title="The credential does not allow this",
    http_status=403,
    meaning="Who calls is known, but the credential lacks the scope that the detail names.",
    remedy="Ask the operator for a credential with that scope.",
)
NOT_FOUND = ProblemType(
    code="not-found",
    title="There is nothing here",
    http_status=404,
    meaning="The path is unknown, or no request has this id. Paths have no trailing and no doubled slash.",
    remedy="Use the path from the Location header or from links.self of the answer to the submission.",
)
METHOD_NOT_ALLOWED = ProblemType(
    code="method-not-allowed",
    title="This path does not take that method",
    http_status=405,
    meaning="The path exists, but not for this HTTP method.",
    remedy="Use one of the methods in the Allow header of the answer.",
)
WEBHOOK_EXISTS = ProblemType(
    code="webhook-exists",
    title="There is such a webhook already",
    http_status=409,
    meaning="You have a webhook with this URL, perhaps one that was disabled because its server answered 410. Nothing "
    "was changed.",
    remedy="Use the one that GET /webhooks shows: rotate its secret if you do not know it, or delete it and make it "
    "anew.",
)
TOO_MANY_WEBHOOKS = ProblemType(
    code="too-many-webhooks",
    title="You have as many webhooks as you may have",
    http_status=409,
    meaning="Every event is sent to every webhook, so their number is limited. Nothing was stored.",
    remedy="Delete a webhook that is not needed any more.",
)
LENGTH_REQUIRED = ProblemType(
    code="length-required",
    title="Content-Length is missing",
    http_status=411,
    meaning="A body needs a Content-Length, because only then can a cut body be told from a whole one. Chunked "
    "transfer is refused for the same reason.",
    remedy="Send the body in one piece with its length in bytes; most HTTP libraries do so when given bytes.",
)
BODY_TOO_LARGE = ProblemType(
    code="body-too-large",
    title="The body is too large",
    http_status=413,
    meaning="The body is larger than 65,536 bytes, or a batch larger than 1,048,576. It was not read.",
    remedy="Send less: of a long conversation the end, and the rest by its transcript_url.",
)
UNSUPPORTED_MEDIA_TYPE = ProblemType(
    code="unsupported-media-type",
    title="The body is not application/json",
    http_status=415,
    meaning="The body has to be uncompressed application/json. A charset other than utf-8 and any Content-Encoding are "
    "refused.",
    remedy="Send Content-Type: application/json and leave Content-Encoding out.",
)
VALIDATION_FAILED = ProblemType(
    code="validation-failed",
    title="The body does not say what is needed",
    http_status=422,
    meaning="The body is JSON, but some members are missing, wrong or unknown. The list errors names every one of them "
    "by its JSON pointer.",
    remedy="Correct what the list names and send it again; the same Idempotency-Key may be used, it was not consumed.",
)
UNKNOWN_TOPIC = ProblemType(
    code="unknown-topic",
    title="The topic is not configured",
    http_status=422,
    meaning="No channel is configured for this topic, so nobody would be told. The list allowed names the topics.",
    remedy="Use one of the allowed topics, or have an operator add the topic to the configuration file.",
)
IDEMPOTENCY_KEY_REUSED = ProblemType(
    code="idempotency-key-reused",
    title="The Idempotency-Key belongs to another request",
    http_status=422,
    meaning="This key came before with another body. Nothing new was stored; the earlier request is unaffected.",
    remedy="Use a new key for every new request, and the same key only to repeat exactly the same body.",
)
NOT_CANCELLABLE = ProblemType(
    code="not-cancellable",
    title="The request is over",
    http_status=409,
    meaning="People were told already, everybody gave up, or the request expired: there is nothing to cancel.",
    remedy="Add a message to the request if people should know that it is not needed any more.",
)
NOT_OPEN = ProblemType(
    code="not-open",
    title="The request was called off",
    http_status=409,
    meaning="The request was cancelled or expired; nobody is told anything more of it.",
    remedy="Make a new request.",
)
RATE_LIMITED = ProblemType(
    code="rate-limited",
    title="Too many calls",
    http_status=429,
    meaning="This client made more calls than it may make in a minute, or too many credentials that were refused came "
    "from this address. Nothing was stored. Other clients are not affected.",
    remedy="Wait for the time in Retry-After. The header RateLimit of every answer says how many calls are left.",
    retryable=True,
)
QUOTA_EXCEEDED = ProblemType(
    code="quota-exceeded",
    title="Too many requests are open",
    http_status=429,
    meaning="This client has as many requests as it may have that have not ended yet. Nothing was stored.",
    remedy="Repeat the request after the time in Retry-After. If that does not help for long, the people are not told, "
    "and the operator should know, or the operator may allow more.",
    retryable=True,
)
OUTBOX_FULL = ProblemType(
    code="outbox-full",
    title="Too much is waiting",
    http_status=429,
    meaning="So many deliveries of this topic's channels wait already that new ones would only wait longer. "
    "Nothing was stored.",
    remedy="Repeat the request after the time in Retry-After.",
    retryable=True,
)
INTERNAL_ERROR = ProblemType(
    code="internal-error",
    title="Something went wrong here",
    http_status=500,
    meaning="A fault in this service, not in the request. It was logged under the request_id of the answer.",
    remedy="Repeat the request with the same Idempotency-Key. If it happens again, report the request_id.",
    retryable=True,
)
ISSUER_UNAVAILABLE = ProblemType(
    code="issuer-unavailable",
    title="The token cannot be checked now",
    http_status=503,
    meaning="The keys of the issuer of this JSON Web Token cannot be fetched at the moment, so nobody can tell whether "
    "it is genuine. Nothing was stored by this call.",
    remedy="Repeat the request after the time in Retry-After, with a token that is still valid then.",
    retryable=True,
)
STORAGE_UNAVAILABLE = ProblemType(
    code="storage-unavailable",
    title="The database does not answer",
    http_status=503,
    meaning="The database is away, silent or overloaded. Nothing was stored by this call.",
    remedy="Repeat the request after the time in Retry-After.",
    retryable=True,
)
COMMIT_UNKNOWN = ProblemType(
    code="commit-unknown",
    title="The request may have been accepted",
    http_status=503,
    meaning="Contact with the database was lost while it was committing. The request may or may not be stored; if "
    "it is, it will be delivered.",
    remedy="Repeat the request with the same Idempotency-Key: it is then stored once, whatever happened. Without a "
    "key a repeat may be told to people twice.",
    retryable=True,
)

PROBLEM_TYPES: Mapping[str, ProblemType] = {
    kind.code: kind
    for kind in (
        BAD_REQUEST,
        MALFORMED_JSON,
        INVALID_PARAMETER,
        BODY_TRUNCATED,
        IDEMPOTENCY_KEY_INVALID,
        UNAUTHENTICATED,
        SIGNATURE_REFUSED,
        FORBIDDEN,
        NOT_FOUND,
        METHOD_NOT_ALLOWED,
        WEBHOOK_EXISTS,
        TOO_MANY_WEBHOOKS,
        LENGTH_REQUIRED,
        BODY_TOO_LARGE,
        UNSUPPORTED_MEDIA_TYPE,
        VALIDATION_FAILED,
        UNKNOWN_TOPIC,
        IDEMPOTENCY_KEY_REUSED,
        NOT_CANCELLABLE,
        NOT_OPEN,
        RATE_LIMITED,
        QUOTA_EXCEEDED,
        OUTBOX_FULL,
        INTERNAL_ERROR,
        ISSUER_UNAVAILABLE,
        STORAGE_UNAVAILABLE,
        COMMIT_UNKNOWN,
    )
}
