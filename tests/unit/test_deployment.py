"""The container files, as far as they can be checked without an engine."""

from __future__ import annotations

import copy
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "deploy" / "check_compose.py"


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_compose", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def check() -> ModuleType:
    return load_script()


@pytest.fixture(scope="module")
def document(check: ModuleType) -> Any:
    compose = check.find_compose()
    if compose is None:
        pytest.skip("Docker Compose is not here")
    return check.parse(compose)


def test_the_compose_file_keeps_its_promises(check: ModuleType, document: Any) -> None:
    assert list(check.mistakes(document)) == []


def publish(services: Any) -> None:
    services["postgres"]["ports"] = [{"host_ip": "127.0.0.1"}]


def publish_to_the_world(services: Any) -> None:
    del services["gateway"]["ports"][0]["host_ip"]


def tell_the_api_secrets(services: Any) -> None:
    services["api"]["environment"]["SLACK_BOT_TOKEN"] = "xoxb-1"


def let_the_api_out(services: Any) -> None:
    services["api"]["networks"]["outside"] = None


def let_the_relay_write(services: Any) -> None:
    del services["relay"]["read_only"]


def give_capabilities_back(services: Any) -> None:
    del services["consumer"]["cap_drop"]


def forget_the_health_check(services: Any) -> None:
    del services["conciliation"]["healthcheck"]


def show_the_dashboards_to_the_world(services: Any) -> None:
    del services["grafana"]["ports"][0]["host_ip"]


def let_the_dashboards_in(services: Any) -> None:
    services["grafana"]["networks"]["inside"] = None


def watch_without_being_asked(services: Any) -> None:
    del services["prometheus"]["profiles"]


def let_strangers_in(services: Any) -> None:
    del services["api"]["depends_on"]["keys"]


@pytest.mark.parametrize(
    "spoil",
    [
        publish,
        publish_to_the_world,
        tell_the_api_secrets,
        let_the_api_out,
        let_the_relay_write,
        give_capabilities_back,
        forget_the_health_check,
        show_the_dashboards_to_the_world,
        let_the_dashboards_in,
        watch_without_being_asked,
        let_strangers_in,
    ],
    ids=lambda spoil: spoil.__name__,
)
def test_a_broken_promise_is_found(check: ModuleType, document: Any, spoil: Callable[[Any], None]) -> None:
    spoiled = copy.deepcopy(document)
    spoil(spoiled["services"])
    assert len(list(check.mistakes(spoiled))) == 1


def test_the_file_for_tls_adds_an_encrypted_port_to_the_gateway_and_changes_nothing_else(
    check: ModuleType, document: Any
) -> None:
    encrypted = check.parse(check.find_compose(), ROOT / "deploy" / "compose.tls.yml")
    document = copy.deepcopy(document)
    plain, gateway = document["services"].pop("gateway"), encrypted["services"].pop("gateway")
    assert encrypted == document
    (port,) = [port for port in gateway.pop("ports") if port not in plain["ports"]]
    mounted = [each for each in gateway.pop("volumes") if each not in plain["volumes"]]
    assert gateway == {name: value for name, value in plain.items() if name not in ("ports", "volumes")}
    assert (port.get("host_ip"), port["published"], port["target"]) == (None, "443", 8443)
    conf = ROOT / "deploy" / "nginx" / "tls.conf"
    assert {each["target"]: each["source"] for each in mounted} == {
        "/etc/nginx/assistance-tls.conf": str(conf),
        "/etc/nginx/tls": str(ROOT / "deploy" / "tls"),
    }
    assert all(each["read_only"] for each in mounted)
    text = conf.read_text(encoding="utf-8")
    assert "listen 8443 ssl;" in text
    assert re.findall(r"ssl_certificate(?:_key)? (.*)/", text) == ["/etc/nginx/tls"] * 2


def test_without_compose_the_check_says_so_and_passes(tmp_path: Path) -> None:
    interpreter = tmp_path / "python"
    interpreter.symlink_to(sys.executable)
    done = subprocess.run(
        [interpreter, "-S", SCRIPT], env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout.count("NOT CHECKED")) == (0, 1), done.stderr


def test_what_the_image_leaves_out_is_in_the_lock_file_and_nothing_else_needs_it() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lock = (ROOT / "requirements" / "run.txt").read_text(encoding="utf-8")
    match = re.search(r"!/\^\(([a-z|-]+)\)==/", dockerfile)
    assert match is not None
    left_out = set(match[1].split("|"))
    for name in left_out:
        block = re.search(rf"^{name}==.*?(?=^\S|\Z)", lock, re.MULTILINE | re.DOTALL)
        assert block is not None, name
        needed_by = set(re.findall(r"#\s+(?:via )?([a-z-]+)", block[0])) - {"via"}
        assert needed_by <= left_out | {"assistance"}, name


def test_the_gateway_lets_through_what_the_api_takes_and_no_more() -> None:
    gateway = (ROOT / "deploy" / "nginx" / "assistance.conf").read_text(encoding="utf-8")
    assert "client_max_body_size 64k;" in gateway
    assert "proxy_request_buffering on;" in gateway
