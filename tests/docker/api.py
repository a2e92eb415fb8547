"""Airflow's API for a user who logs in."""

from __future__ import annotations

from functools import cached_property

from airflow_zen.localstack.services import request_json
from tests.servers.airflow_api import AirflowApi


class Api(AirflowApi):
    """A client of the Airflow of the compose file, as its first user."""

    def __init__(self, url: str, password: str) -> None:
        super().__init__(url)
        self.password = password

    @cached_property
    def _token(self) -> str:
        who = {"username": "admin", "password": self.password}
        return str(request_json("POST", f"{self.url}/auth/token", who)["access_token"])
