"""Reading ASSISTANCE_BROKER_URL."""

from __future__ import annotations

import pytest

from assistance.broker.rabbitmq.address import Address, parse_url
from assistance.domain.errors import SettingsError


def _one(url: str) -> Address:
    (address,) = parse_url(url)
    return address


def test_a_url_gives_host_port_credentials_and_virtual_host() -> None:
    address = _one("amqp://user:secret@broker.example:5673/shop")
    assert (address.host, address.port, address.vhost, address.tls) == ("broker.example", 5673, "shop", False)
    assert (address.user, address.password) == ("user", "secret")


def test_what_is_left_out_has_the_usual_defaults() -> None:
    address = _one("amqp://broker")
    assert (address.port, address.vhost, address.user, address.password) == (5672, "/", "guest", "guest")


@pytest.mark.parametrize(("path", "vhost"), [("", "/"), ("/", "/"), ("/%2F", "/"), ("/a%2Fb", "a/b"), ("/a", "a")])
def test_the_virtual_host_is_percent_decoded(path: str, vhost: str) -> None:
    assert _one(f"amqp://broker{path}").vhost == vhost


def test_several_hosts_keep_their_order_and_share_credentials_and_virtual_host() -> None:
    addresses = parse_url("amqp://u:p@first:5673,second,[::1]:5674/shop")
    assert [(a.host, a.port) for a in addresses] == [("first", 5673), ("second", 5672), ("::1", 5674)]
    assert {(a.user, a.password, a.vhost) for a in addresses} == {("u", "p", "shop")}


def test_amqps_encrypts_and_checks_the_name_of_the_host() -> None:
    address = _one("amqps://broker.example")
    options = address.parameters("test").ssl_options
    assert address.port == 5671
    assert options.server_hostname == "broker.example"
    assert options.context.check_hostname


def test_special_characters_in_a_password_are_percent_encoded_and_an_at_sign_need_not_be() -> None:
    assert _one("amqp://u:a%2Fb%3F@broker").password == "a/b?"
    assert _one("amqp://u:a@b@broker").password == "a@b"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "broker:5672",
        "memory:",
        "http://u:hunter2@broker",
        "amqp://",
        "amqp://u:hunter2@",
        "amqp://u:hunter2@/shop",
        "amqp://u:hunter2@first,,second",
        "amqp://u:hunter2@broker:port",
        "amqp://u:hunter2@broker:0",
        "amqp://u:hunter2@broker:70000",
        "amqp://u:hunter2@broker:",
        "amqp://u:hunter2@[::1",
        "amqp://u:hunter2@bro ker",
        "amqp://u:hunter2@broker/a/b",
        "amqp://u:hunter2@broker/a?heartbeat=5",
        "amqp://u:hun/ter2@broker/a",
        "amqp://u:hunter2/x@broker",
        "amqp://u:hunter2#x@broker",
    ],
)
def test_a_wrong_url_is_one_sentence_that_names_the_setting_and_never_the_password(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_url(url)
    sentence = str(caught.value)
    assert sentence.startswith("ASSISTANCE_BROKER_URL is wrong: ")
    assert "hun" not in sentence
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_an_address_shows_no_credentials_when_it_is_printed() -> None:
    address = _one("amqp://visible:hunter2@broker/shop")
    assert "hunter2" not in f"{address} {address!r}"
    assert str(address) == "broker:5672"
