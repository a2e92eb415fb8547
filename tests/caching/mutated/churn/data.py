"""Customers, made by a seeded generator."""

import random
from collections import namedtuple
from typing import NamedTuple

from .settings import DAYS_IN_MONTH, DISCOUNTS, PLANS, PRICES, SETTINGS, VAT

Usage = namedtuple("Usage", ["calls", "minutes"], defaults=(0,))


class Customer(NamedTuple):
    number: int
    age: int
    plan: str
    months: int = 1
    usage: Usage = Usage(1, 2)

    @property
    def bill(self):
        price = PRICES[self.plan] * (1 - DISCOUNTS.get(self.plan, 0.5))
        return round(price * (1 + float(VAT)), 2)

    @staticmethod
    def is_heavy(usage):
        return usage.calls > 20 or usage.minutes > 100

    @classmethod
    def draw(cls, number, generator):
        plan = generator.choice(PLANS)
        usage = Usage(generator.randint(0, 40), generator.randint(0, 200))
        return cls(number, generator.randint(18, 90), plan, generator.randint(1, 24), usage)


def load_customers(seed, limit=10):
    generator = random.Random(seed)
    found = []
    while len(found) < limit:
        customer = Customer.draw(len(found), generator)
        if customer.months * DAYS_IN_MONTH < 60:
            continue
        found.append(customer)
    return sorted(found, key=_order)


def _order(customer):
    days = (SETTINGS.since.toordinal() - customer.months * DAYS_IN_MONTH) % 7
    return days, -customer.age, customer.number
