# SPDX-License-Identifier: Apache-2.0
"""Samples of all rounds to a table, a CSV and a plot."""

import collections
import csv
import re

from .workloads import median

LOG_FIELDS = ("round", "metric", "unit", "runtime", "median", "best", "load_1m", "running", "error")


class Results:
    def __init__(self, runtimes):
        self.runtimes = runtimes  # names, in their order
        self.rows = []
        self.units = {}
        self._values = collections.defaultdict(list)  # (metric, runtime): samples
        self.errors = {}  # (workload, runtime): the last one

    def add(self, round_number, runtime, sample, load):
        self.units.setdefault(sample.metric, sample.unit)
        self._values[sample.metric, runtime].append(sample)
        self.rows.append((round_number, sample.metric, sample.unit, runtime, f"{sample.median:.1f}", f"{sample.best:.1f}", load[0], load[1], ""))

    def fail(self, round_number, runtime, workload, message, load):
        self.errors[workload, runtime] = message
        self.rows.append((round_number, workload, "", runtime, "", "", load[0], load[1], message))

    def value(self, metric, runtime):
        """(median over the rounds of their medians, best of all), or None."""
        samples = self._values.get((metric, runtime))
        return (median([s.median for s in samples]), min(s.best for s in samples)) if samples else None

    def ratio(self, metric, runtime, to, best=False):
        ours, theirs = self.value(metric, runtime), self.value(metric, to)
        if not ours or not theirs or theirs[best] == 0:
            return None
        return ours[best] / theirs[best]

    def table(self):
        """Of each metric a block: a line for each runtime with the ratios of its median (and of its best, to native) to the others."""
        width = max([len(name) for name in self.runtimes] + [9])
        lines = []
        for metric, unit in self.units.items():
            peers = [p for p in self.runtimes if self.value(metric, p)]
            head = f"{metric + ' (' + unit + ')':<{width + 2}} {'median':>12} {'best':>12}"
            head += "".join(f" {'×' + p:>{len(p) + 5}}" for p in peers)
            lines.append(head + ("   best ×native" if "native" in peers else ""))
            for name in peers:
                middle, best = self.value(metric, name)
                line = f"  {name:<{width}} {_number(middle):>12} {_number(best):>12}"
                line += "".join(f" {_ratio(self.ratio(metric, name, p)):>{len(p) + 5}}" for p in peers)
                if "native" in peers:
                    line += f"   {_ratio(self.ratio(metric, name, 'native', best=True)):>12}"
                lines.append(line)
        same = collections.defaultdict(list)
        for (workload, runtime), message in self.errors.items():
            # What differs only in numbers (process ids, times) is said once.
            same[runtime, re.sub("[0-9]+", "0", message)].append((workload, message))
        for (runtime, _), failed in same.items():
            lines.append(f"FAILED on {runtime}: {' '.join(workload for workload, _ in failed)}: {failed[0][1]}")
        return "\n".join(lines)

    def markdown(self, base="native"):
        """One row a metric: the base's best, and of each other runtime its best and its median as multiples of the base's."""
        others = [r for r in self.runtimes if r != base]
        lines = [f"| | {base} | " + " | ".join(others) + " |", "|---|---|" + "---|" * len(others)]
        for metric, unit in self.units.items():
            value = self.value(metric, base)
            cells = [f"{_number(value[1])} {unit}" if value else "-"]
            for other in others:
                best, middle = self.ratio(metric, other, base, best=True), self.ratio(metric, other, base)
                plain = self.value(metric, other)
                if best is not None:
                    cells.append(f"{_ratio(best)} / {_ratio(middle)}")
                else:
                    cells.append(f"{_number(plain[1])} {unit}" if plain else "-")
            lines.append(f"| {metric} | " + " | ".join(cells) + " |")
        return "\n".join(lines) + "\n"

    def write_csv(self, path):
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(LOG_FIELDS)
            writer.writerows(self.rows)

    def write_plot(self, path, title):
        """False when matplotlib (python3-matplotlib) is not installed."""
        try:
            import matplotlib
        except ImportError:
            return False
        matplotlib.use("Agg")
        from matplotlib import pyplot

        base = "native" if "native" in self.runtimes else self.runtimes[0]
        metrics = [m for m in self.units if self.value(m, base) and self.value(m, base)[0]]
        others = [r for r in self.runtimes if r != base]
        figure, axes = pyplot.subplots(figsize=(10, 1.5 + 0.16 * len(metrics) * (len(others) + 1)))
        height = 0.8 / max(len(others), 1)
        for at, runtime in enumerate(others):
            ratios = [self.ratio(m, runtime, base) or 0 for m in metrics]
            axes.barh([i + at * height for i in range(len(metrics))], ratios, height, label=runtime)
        axes.set_yticks([i + 0.4 - height / 2 for i in range(len(metrics))], metrics, fontsize=7)
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_xlabel(f"median, as a multiple of {base} (logarithmic; less is better)")
        axes.set_title(title, fontsize=9)
        axes.legend(fontsize=8)
        figure.tight_layout()
        figure.savefig(path, dpi=110)
        pyplot.close(figure)
        return True


def _number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _ratio(value):
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
