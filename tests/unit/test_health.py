"""When a container is well, and when it is time to ask."""

import pytest

from kist.engine.health import HEALTHY, KEPT, STARTING, UNHEALTHY, Check, Health, after_check, interval_ms, is_due
from kist.plan.image import with_image
from kist.plan.request import RunRequest
from kist.spec.image import ContainerConfig, Healthcheck, ImageConfig, RootFs
from kist.value import replace

ASKED = RunRequest(image="a", health_cmd=("true",), health_interval_s=10.0, health_retries=2)
SECOND = 10**9


def checked(request: RunRequest, *codes: int) -> Health:
    health = Health(0)
    for number, code in enumerate(codes, 1):
        at = number * 10 * SECOND
        health = after_check(request, health, Check(at, at + 1, code))
    return health


@pytest.mark.parametrize(
    ("codes", "status", "streak"),
    [((), STARTING, 0), ((1,), STARTING, 1), ((1, 1), UNHEALTHY, 2), ((0,), HEALTHY, 0), ((0, 1), HEALTHY, 1),
     ((0, 1, -1), UNHEALTHY, 2), ((0, 1, 0, 1), HEALTHY, 1), ((1, 1, 0), HEALTHY, 0)],
)  # fmt: skip
def test_so_many_failures_in_a_row_make_it_unhealthy(codes, status, streak):
    health = checked(ASKED, *codes)
    assert (health.status, health.streak) == (status, streak)


def test_failures_count_only_after_the_start_period_or_the_first_success():
    request = replace(ASKED, health_start_period_s=35.0)
    assert checked(request, 1, 1, 1).streak == 0
    assert checked(request, 1, 1, 1, 1, 1).status == UNHEALTHY
    assert checked(request, 0, 1, 1).status == UNHEALTHY


def test_the_last_results_are_kept():
    assert [check.code for check in checked(ASKED, *range(1, 9)).checks] == list(range(9 - KEPT, 9))


def test_checks_are_more_frequent_while_it_starts():
    assert interval_ms(RunRequest(image="a")) == 0
    assert interval_ms(ASKED) == 10000
    request = replace(ASKED, health_start_period_s=60.0, health_start_interval_s=2.0)
    assert interval_ms(request) == 2000
    health = checked(request, 1)
    assert is_due(request, health, 12 * SECOND)
    health = checked(request, 0)
    assert not is_due(request, health, 12 * SECOND)
    assert is_due(request, health, 20 * SECOND)


def test_the_image_says_what_is_not_asked_for():
    own = Healthcheck(test=("CMD", "/check", "a b"), interval=5 * SECOND, retries=7)
    image = ImageConfig("amd64", "linux", RootFs("layers", ()), config=ContainerConfig(healthcheck=own))
    made = with_image(RunRequest(image="a", health_interval_s=1.5), image)
    assert (made.health_cmd, made.health_interval_s, made.health_retries) == (("/check", "a b"), 1.5, 7)
    assert made.health_timeout_s is None
    assert with_image(RunRequest(image="a", no_healthcheck=True), image).health_cmd == ()
    none = replace(image, config=ContainerConfig(healthcheck=Healthcheck(test=("NONE",))))
    assert with_image(RunRequest(image="a"), none).health_cmd == ()
    shell = replace(image, config=ContainerConfig(healthcheck=Healthcheck(test=("CMD-SHELL", "a && b"))))
    assert with_image(RunRequest(image="a"), shell).health_cmd == ("/bin/sh", "-c", "a && b")
