"""Asking once whose the token is: what `genopt validate --online` does."""

import pytest

from genopt_pipeline.sandbox.faults import FaultQueue
from genopt_pipeline.sources.x_api.errors import XApiRefusedError, XApiTransientError
from genopt_pipeline_tests.sources.x_api_scenario import scenario


def test_the_accounts_followers_are_told_by_one_request():
    with scenario() as s:
        assert s.source.check_access() > 0
        assert dict(s.server.requests) == {"users/me": 1}


def test_a_token_of_another_account_is_refused():
    refused = pytest.raises(XApiRefusedError, match="GENOPT_X_USER_ID")
    with scenario(server_options={"user_id": "999"}) as s, refused:
        s.source.check_access()


def test_a_wrong_token_is_refused_and_a_broken_server_is_not_waited_for():
    with scenario(token="another-token") as s, pytest.raises(XApiRefusedError):
        s.source.check_access()
    with scenario(faults=FaultQueue(["http_500"] * 20)) as s, pytest.raises(XApiTransientError):
        s.source.check_access()
