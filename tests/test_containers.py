"""Every service is bounded as SECURITY.md says, and the locks hold what pyproject.toml asks for."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
DIGEST = r"[a-z0-9./-]+:[A-Za-z0-9._-]*\d+\.\d+\.\d+[A-Za-z0-9._-]*@sha256:[0-9a-f]{64}"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = ROOT / "deploy" / "locks"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_may_do_no_more_than_it_must(name):
    service = SERVICES[name]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service.get("cap_add", [])) <= {"secret": {"CHOWN"}, "proxy": {"NET_BIND_SERVICE"}}.get(name, set())
    assert re.fullmatch(r"\d+[mg]|\$\{MLAAS_MEMORY:-8g\}", service["mem_limit"]) and service["pids_limit"] <= 512
    assert not {"privileged", "devices", "pid", "ipc", "userns_mode"} & service.keys()
    assert service.get("network_mode", "none") == "none"
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_pinned(name):
    service = SERVICES[name]
    assert "build" in service or re.fullmatch(DIGEST, service["image"])


def test_the_bases_of_our_images_are_pinned():
    stages, bases = set(), []
    for base, stage in re.findall(r"^FROM (\S+) AS (\S+)$", (ROOT / "Dockerfile.gpu").read_text(), re.MULTILINE):
        if base not in stages | {"${FOR}"}:
            bases.append(base)
        stages.add(stage)
    assert len(bases) == 2 and all(re.fullmatch(DIGEST, base) for base in bases)


def test_only_redis_and_those_who_ask_it_see_its_password():
    mounts = {name: str(service.get("volumes", "")) for name, service in SERVICES.items()}
    assert {name for name, volumes in mounts.items() if "secret:" in volumes} == {
        "secret",
        "redis",
        "prepare",
        "server",
    }
    assert {name for name, service in SERVICES.items() if "store" in service.get("networks", [])} == {
        "redis",
        "prepare",
        "server",
    }


def pinned(*files):
    """Returns the versions in lock files by package, each line of which has hashes."""
    found = {}
    for file in files:
        for entry in re.findall(r"^\S.*(?:\n\s+.*)*", (LOCKS / file).read_text(), re.MULTILINE):
            name, _, rest = entry.partition("==")
            version = re.match(r"[^\s;\\]+", rest)[0]
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry
            found.setdefault(name, []).append(version)
    return found


EXTRAS = PROJECT["optional-dependencies"]


@pytest.mark.parametrize("pytorch", ["pytorch-cpu.txt", "pytorch-cuda.txt"])
def test_the_locks_hold_what_the_project_asks_for(pytorch):
    core, server, private = pinned(pytorch, "core.txt"), pinned("server.txt"), pinned("private.txt")
    assert not core.keys() & server.keys() and not private.keys() & (core | server).keys()
    asked = [
        (PROJECT["dependencies"], core),
        (EXTRAS["server"] + EXTRAS["digits"], core | server),
        (EXTRAS["private"], core | server | private),
    ]
    for requirements, locked in asked:
        for requirement in map(Requirement, requirements):
            versions = locked.get(requirement.name.lower(), [])
            outside = [version for version in versions if version not in requirement.specifier]
            assert versions and not outside, f"{requirement}: locked {versions}; run make lock"


def test_pip_installs_only_what_is_locked():
    installs = re.findall(r"pip install (.*)", (ROOT / "Dockerfile.gpu").read_text())
    assert len(installs) == 3 and all("--require-hashes --no-deps" in line for line in installs)
