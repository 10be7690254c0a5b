"""Sources in the configuration file: what is understood, and how mistakes are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistance.bootstrap.sources import open_sources
from assistance.configuration.templates import Path as PathIn
from assistance.configuration.templates import Template
from assistance.domain.errors import SettingsError
from assistance.domain.source import Scheme
from tests.unit.test_configuration import load, mistakes

FILE = """
[channels.people]
type = "webhook"
url = "https://x.test/"

[topics]
bugs = "people"
"""
HOOK = 'scheme = "hub"\nsecret = "env:HOOK_SECRET"'
REQUEST = '[sources.hook.request]\ntopic = "Bugs"\ndescription = "{text}"'


def test_a_source_is_read_with_its_secrets_its_filter_and_its_request(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        f"""{FILE}
[sources.hook]
scheme = "hub"
secret = ["env:NOW", "file:/run/before"]
verify_token = "env:TOKEN"
message_id = "X-GitHub-Delivery"
only.action = ["opened", "reopened"]
only.issue.number = 7
only."issue.draft" = false

[sources.hook.request]
topic = " BUGS "
description = "{{{{{{issue.title}}: {{issue.body?}}"
customer = {{id = "{{user.id}}", tier = "gold"}}
metadata = {{big = true, size = 3}}
""",
    ).sources["hook"]
    assert (found.name, found.scheme, found.secrets) == ("hook", Scheme.HUB, ("env:NOW", "file:/run/before"))
    assert (found.verify_token, found.message_id) == ("env:TOKEN", "x-github-delivery")
    assert found.only == (
        (PathIn(("action",)), ("opened", "reopened")),
        (PathIn(("issue", "number")), ("7",)),
        (PathIn(("issue", "draft")), ("false",)),
    )
    assert found.request["topic"] == Template((" BUGS ",))
    title, body = PathIn(("issue", "title")), PathIn(("issue", "body"), optional=True)
    assert found.request["description"] == Template(("{", title, ": ", body))
    assert found.request["customer"] == {"id": Template((PathIn(("user", "id")),)), "tier": Template(("gold",))}
    assert found.request["metadata"] == {"big": True, "size": 3}


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (f"[sources.Hook]\n{HOOK}", "[sources.Hook] is not a source name: a-z, 0-9 and -"),
        ("sources = 1", "[sources] is not a table."),
        (
            f"[sources.hook]\nsecret='env:A'\n{REQUEST}",
            "[sources.hook] scheme is None (allowed: hub, slack, standard).",
        ),
        (f"[sources.hook]\nscheme='hubs'\n{REQUEST}", "scheme is 'hubs'; did you mean 'hub'?"),
        (f"[sources.hook]\nscheme='hub'\n{REQUEST}", "[sources.hook] secret is not env:NAME or file:PATH"),
        (f"[sources.hook]\nscheme='hub'\nsecret='hunter2hunter2'\n{REQUEST}", "secret is not env:NAME or file:PATH"),
        (f"[sources.hook]\nscheme='hub'\nsecret=[]\n{REQUEST}", "secret is not env:NAME or file:PATH"),
        (f"[sources.hook]\n{HOOK}\nkey=1\n{REQUEST}", "[sources.hook] key is not a key"),
        (f"[sources.hook]\n{HOOK}\nmessage_id='a b'\n{REQUEST}", "message_id is not the name of a header"),
        (
            f"[sources.hook]\nscheme='slack'\nsecret='env:A'\nverify_token='env:B'\n{REQUEST}",
            "[sources.hook] verify_token belongs to scheme 'hub' only.",
        ),
        (f"[sources.hook]\n{HOOK}\nonly='x'\n{REQUEST}", "[sources.hook] only is not a table."),
        (f"[sources.hook]\n{HOOK}\nonly.a=[]\n{REQUEST}", "[sources.hook] only a is not a value or a list of values"),
        (f"[sources.hook]\n{HOOK}\nonly.'a..b'='x'\n{REQUEST}", "only holds 'a..b', which is not a path"),
        (f"[sources.hook]\n{HOOK}", "[sources.hook.request] is missing."),
        (f"[sources.hook]\n{HOOK}\nrequest=1", "[sources.hook.request] is not a table."),
        (f"[sources.hook]\n{HOOK}\nrequest={{}}", "[sources.hook.request] topic is missing."),
        (f"[sources.hook]\n{HOOK}\nrequest={{topic='bugs'}}", "[sources.hook.request] description is missing."),
        (f"[sources.hook]\n{HOOK}\n{REQUEST}\ntitel='x'", "titel is not a key; did you mean 'title'?"),
        (f"[sources.hook]\n{HOOK}\n{REQUEST}\ncallback_url='x'", "callback_url is not a key"),
        (f"[sources.hook]\n{HOOK}\nrequest={{topic='bug', description='x'}}", "topic is 'bug'; did you mean 'bugs'?"),
        (f"[sources.hook]\n{HOOK}\n{REQUEST}\ntitle='{{a'", "[sources.hook.request] title has a lonely '{'"),
        (f"[sources.hook]\n{HOOK}\n{REQUEST}\ntitle='a}}'", "title has a lonely '}': write '}}' for the brace itself."),
        (f"[sources.hook]\n{HOOK}\n{REQUEST}\ntitle='{{}}'", "title holds '', which is not a path"),
        (f"[sources.hook]\n{HOOK}\n{REQUEST}\ncustomer={{id='{{a.}}'}}", "customer holds 'a.', which is not a path"),
        (f"[sources.hook]\n{HOOK}\n{REQUEST}\nnot_before=2026-01-01", "not_before is not a text, a number"),
    ],
    ids=range(25),
)
def test_every_mistake_is_one_sentence(tmp_path: Path, source: str, sentence: str) -> None:
    # A top-level key has to stand before the first table.
    text = f"{source}\n{FILE}" if source.startswith("sources") else f"{FILE}\n{source}"
    told = mistakes(tmp_path, text)
    assert any(sentence in line for line in told), told


def test_a_missing_or_short_secret_is_told_of_at_the_start_and_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = f"[sources.hook]\n{HOOK}\nverify_token='env:NO_TOKEN'\n{REQUEST}"
    std = (
        f"[sources.std]\nscheme='standard'\nsecret=['env:STD_NOW', 'env:STD_BEFORE']\n{REQUEST.replace('hook', 'std')}"
    )
    found = load(tmp_path, f"{FILE}\n{hook}\n{std}")
    monkeypatch.setenv("HOOK_SECRET", "hunter2")
    monkeypatch.setenv("STD_BEFORE", "whsec_hunter2")
    with pytest.raises(SettingsError) as refused:
        open_sources(found)
    assert str(refused.value).splitlines() == [
        "[sources.hook] secret env:HOOK_SECRET: is shorter than 16 bytes.",
        "[sources.hook] verify_token env:NO_TOKEN: the environment variable NO_TOKEN is not set.",
        "[sources.std] secret env:STD_NOW: the environment variable STD_NOW is not set.",
        "[sources.std] secret env:STD_BEFORE: is not whsec_ followed by base64 of 24 to 64 bytes.",
    ]
    monkeypatch.setenv("HOOK_SECRET", "It's a Secret to Everybody")
    monkeypatch.setenv("NO_TOKEN", "t")
    for name in ("STD_NOW", "STD_BEFORE"):
        monkeypatch.setenv(name, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert "Secret" not in repr(open_sources(found)["hook"])
