"""Reads the text format of Prometheus (0.0.4), and is strict about it: what its own parsers let pass, but a careful
exporter does not write, is an error here."""

from __future__ import annotations

import math
import re

Labels = frozenset[tuple[str, str]]

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_HELP = re.compile(rf"# HELP ({_NAME}) (.+)")
_TYPE = re.compile(rf"# TYPE ({_NAME}) (counter|gauge|histogram)")
_SAMPLE = re.compile(rf"({_NAME})(?:\{{(.*)\}})? (\S+)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)')
_ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


def _labels(text: str) -> Labels:
    found, at = [], 0
    while at < len(text):
        match = _LABEL.match(text, at)
        assert match, f"labels: {text[at:]}"
        found.append((match[1], re.sub(r'\\["\\n]', lambda m: _ESCAPES[m[0]], match[2])))
        at = match.end()
    assert len({name for name, _ in found}) == len(found), f"a label twice: {text}"
    return frozenset(found)


class Metrics:
    """One answer of /metrics."""

    def __init__(self, text: str) -> None:
        self.types: dict[str, str] = {}
        self.samples: dict[tuple[str, Labels], float] = {}
        assert text.endswith("\n")
        lines = iter(text[:-1].split("\n"))
        family = ""
        for line in lines:
            if line.startswith("#"):
                help_line = _HELP.fullmatch(line)
                assert help_line, line
                family = help_line[1]
                type_line = _TYPE.fullmatch(next(lines))
                assert type_line and type_line[1] == family, f"HELP and TYPE of {family}"
                assert family not in self.types, f"{family} comes twice"
                self.types[family] = type_line[2]
                continue
            match = _SAMPLE.fullmatch(line)
            assert match, line
            suffixes = ("_bucket", "_sum", "_count") if self.types[family] == "histogram" else ("",)
            assert match[1] in {family + suffix for suffix in suffixes}, f"{match[1]} among {family}"
            key = (match[1], _labels(match[2] or ""))
            assert key not in self.samples, f"{line} comes twice"
            self.samples[key] = float(match[3])
        for name, kind in self.types.items():
            if kind == "histogram":
                self._check_histogram(name)
            elif kind == "counter":
                assert all(v >= 0 for (n, _), v in self.samples.items() if n == name), name

    def _check_histogram(self, name: str) -> None:
        series: dict[Labels, dict[float, float]] = {}
        for (sample, labels), value in self.samples.items():
            if sample == f"{name}_bucket":
                bound = float(dict(labels)["le"])
                series.setdefault(frozenset(x for x in labels if x[0] != "le"), {})[bound] = value
        for labels, buckets in series.items():
            counts = [buckets[bound] for bound in sorted(buckets)]
            assert counts == sorted(counts), f"{name}: buckets that shrink"
            assert buckets[math.inf] == self.samples[f"{name}_count", labels], name
            assert (f"{name}_sum", labels) in self.samples, name

    def get(self, name: str, **labels: str) -> float:
        """A sample's value; 0 where there is none (a counter that nothing has been added to is not there)."""
        return self.samples.get((name, frozenset(labels.items())), 0.0)

    def all(self, name: str) -> dict[Labels, float]:
        """Every sample of this name."""
        return {labels: value for (sample, labels), value in self.samples.items() if sample == name}
