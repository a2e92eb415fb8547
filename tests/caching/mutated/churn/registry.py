"""Functions by their names, and decorators."""

import functools


class Registry(dict):
    """Functions by name."""

    prefix = ""

    def __init__(self, prefix="", weight=1):
        super().__init__()
        self.prefix = prefix
        self.weight = weight

    def register(self, function=None, *, name=None):
        if function is None:
            return functools.partial(self.register, name=name)
        self[self.prefix + (name or function.__name__)] = function
        return function


def scaled(factor):
    def decorate(function):
        @functools.wraps(function)
        def inner(*args, **options):
            return function(*args, **options) * factor

        return inner

    return decorate


def traced(function):
    calls = {"count": 0}

    def inner(*args):
        calls["count"] += 1
        result = function(*args)
        return result if calls["count"] % 2 else result + 1

    return inner


def compose(*functions):
    return lambda value: functools.reduce(lambda found, each: each(found), functions, value)
