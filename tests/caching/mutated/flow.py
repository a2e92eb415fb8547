"""The step of a small project whose lines are edited one by one."""

import churn.evaluate as ev
from churn import __version__, features, train
from churn.data import load_customers
from churn.reports import Report, render
from churn.settings import SETTINGS, Segment


def step(seed=7, limit=40):
    """Return all that the project computes."""
    customers = load_customers(seed, limit)
    table = features.build(customers)
    model = train.fit(table, SETTINGS.model)
    scores = [model.score(row) for row in table.rows()]
    report = Report(__version__, [ev.summary(scores, table.labels)])
    for segment in Segment:
        chosen = [score for score, customer in zip(scores, customers) if segment.holds(customer)]
        report.add(segment.title, ev.summary(chosen, [1] * len(chosen)))
    return {
        "report": render(report),
        "costs": {name: rule(scores) for name, rule in sorted(ev.COSTS.items())},
        "explained": features.explain(customers[0]),
        "history": train.history(model),
        "bands": features.bands(customers),
        "frame": features.frame_totals(customers),
    }
