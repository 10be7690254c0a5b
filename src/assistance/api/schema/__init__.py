"""The body of `POST /assistance`: what it may hold, and every mistake in it reported at once.

`members` says what there is, `kinds` what a text, an instant or an address has to look like, `mistakes` how a refusal
is worded, `submission` puts them together.
"""

from assistance.api.schema.members import SubmissionBody
from assistance.api.schema.submission import parse_submission, unknown_topic

__all__ = ["SubmissionBody", "parse_submission", "unknown_topic"]
