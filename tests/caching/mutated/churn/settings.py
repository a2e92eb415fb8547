"""Settings, as classes and constants of several kinds."""

from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from types import MappingProxyType

DAYS_IN_MONTH = 30
START = date(2024, 1, 1) + timedelta(days=DAYS_IN_MONTH)
VAT = Decimal("0.19")
PLANS = ("basic", "family", "business")
PRICES = MappingProxyType({name: 10 * (at + 1) for at, name in enumerate(PLANS)})
DISCOUNTS = {"basic": 0.0, "family": 0.1}
DISCOUNTS["business"] = 0.25


def default_depths():
    return [depth for depth in range(1, 4)]


@dataclass(frozen=True)
class ModelSettings:
    rate: float = 0.1
    rounds: int = 3
    depths: list = field(default_factory=default_depths)

    @property
    def total(self):
        return self.rounds * len(self.depths)


@dataclass
class Settings:
    name: str = "churn"
    model: ModelSettings = field(default_factory=lambda: ModelSettings(rate=0.2))
    limits: tuple = (0.25, 0.5, 0.75)

    def band(self, score):
        for at, limit in enumerate(self.limits):
            if score < limit:
                return at
        return len(self.limits)


class Segment(Enum):
    YOUNG = (18, 35)
    MIDDLE = (35, 60)
    OLD = (60, 120)

    @property
    def title(self):
        return self.name.lower().center(10, "-")

    def holds(self, customer):
        low, high = self.value
        return low <= customer.age < high


SETTINGS = Settings(limits=(0.2, 0.5, 0.9))
Settings.since = START
