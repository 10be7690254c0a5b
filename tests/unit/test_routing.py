"""Which channels a topic goes to."""

from __future__ import annotations

import pytest

from assistance.domain.errors import UnknownTopic
from assistance.domain.route import Route
from assistance.intake.routing import plan
from tests.builders import configuration

CONFIGURATION = configuration({"sales": ("people",), "pricing": ("people", "inbox")})


@pytest.mark.parametrize("written", ["pricing", " Pricing ", "PRICING"])
def test_a_topic_goes_to_its_channels_however_it_is_written(written: str) -> None:
    found = plan(CONFIGURATION, written)
    assert (found.topic, found.route, found.digest) == ("pricing", Route(to=("people", "inbox")), "sha256:test")


def test_an_unknown_topic_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownTopic) as refused:
        plan(CONFIGURATION, "sails")
    assert refused.value.topic == "sails"
    assert refused.value.known == ("pricing", "sales")
