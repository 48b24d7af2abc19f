"""What a run came to: medians over rounds, ratios, targets, as one object and as Markdown."""

import statistics

# Key, heading, unit, the leg, where in what the leg saw; or None for what is counted against `direct`.
FIGURES = [
    ("json_cpu", "CPU per JSON exchange, 64 connections", "µs", "json", ("cpu_us",)),
    ("paced_cpu", "CPU per JSON exchange, paced", "µs", "paced", ("cpu_us",)),
    ("json_rate", "JSON exchanges a second", "1/s", "json", ("rate",)),
    ("json_p50", "JSON added latency p50, paced", "µs", "paced", ("latency_us", "p50")),
    ("json_p99", "JSON added latency p99, paced", "µs", "paced", ("latency_us", "p99")),
    ("sse_cpu", "CPU per SSE event, 200 streams", "µs", "sse", ("cpu_us",)),
    ("event_p50", "SSE added event delay p50", "µs", "sse", ("delay_us", "p50")),
    ("event_p99", "SSE added event delay p99", "µs", "sse", ("delay_us", "p99")),
    ("first_p50", "SSE added time to the first event p50", "µs", "sse", ("first_us", "p50")),
    ("first_p99", "SSE added time to the first event p99", "µs", "sse", ("first_us", "p99")),
    ("memory", "Memory per open stream, 1,000 streams", "KiB", "memory", ("kib_per_stream",)),
    ("rss", "Memory before them", "KiB", "memory", ("rss_kib", "before")),
]
ADDED = {"json_p50", "json_p99", "event_p50", "event_p99", "first_p50", "first_p99"}

# What is compared, with what (None: the figure itself), and the most that it may be.
TARGETS = [
    ("json_cpu", "bare", 1.1),
    ("sse_cpu", "bare", 0.75),
    ("sse_cpu", "nginx", 1.1),
    ("memory", None, 48),
]
RATIOS = [("json_cpu", "nginx"), ("json_cpu", "bare"), ("paced_cpu", "nginx"), ("paced_cpu", "bare"),
          ("sse_cpu", "nginx"), ("sse_cpu", "bare"), ("memory", "nginx"), ("memory", "bare")]
HEADINGS = {key: heading for key, heading, *_ in FIGURES}


def result(rounds, facts):
    """Everything about a run, for machines."""
    subjects = list(dict.fromkeys(name for seen in rounds for name in seen))
    figures = {name: figures_of(name, rounds) for name in subjects}
    return {
        "facts": facts,
        "figures": figures,
        "ratios": ratios(figures),
        "targets": [target for target in (judged(figures, *row) for row in TARGETS) if target],
        "foreign": foreign(rounds),
        "faults": faults(rounds),
        "rounds": rounds,
    }


def figures_of(name, rounds):
    """For each figure, its median over the rounds and each round's own."""
    figures = {}
    for key, _, _, leg, path in FIGURES:
        values = [value for seen in rounds if (value := figure(seen, name, leg, path, key in ADDED)) is not None]
        if values:
            figures[key] = {"median": statistics.median(values), "rounds": values}
    return figures


def figure(seen, name, leg, path, added):
    value = at(seen.get(name, {}).get(leg), path)
    if not added or name == "direct" or value is None:
        return value
    base = at(seen.get("direct", {}).get(leg), path)
    return None if base is None else value - base


def at(value, path):
    for key in path:
        value = value.get(key) if value else None
    return value


def median(figures, name, key):
    return figures.get(name, {}).get(key, {}).get("median")


def ratio(figures, name, key, base):
    ours, theirs = median(figures, name, key), median(figures, base, key)
    return None if ours is None or not theirs else ours / theirs


def ratios(figures):
    rows = []
    for key, base in RATIOS:
        row = {name: ratio(figures, name, key, base) for name in figures if name != "direct"}
        if any(value is not None for value in row.values()):
            rows.append({"figure": key, "to": base, "of": row})
    return rows


def judged(figures, key, base, most):
    value = ratio(figures, "forebay", key, base) if base else median(figures, "forebay", key)
    if value is None:
        return None
    # Noise only adds: where a machine is not quiet, the best rounds are nearer to the truth than the middle ones.
    best = lowest(figures, "forebay", key) / (lowest(figures, base, key) if base else 1)
    return {"figure": key, "to": base, "most": most, "value": value, "met": value <= most, "best": best}


def lowest(figures, name, key):
    return min(figures[name][key]["rounds"])


def foreign(rounds):
    """The largest share of each core that other processes took while something was measured."""
    shares = [leg["foreign"] for seen in rounds for legs in seen.values() for leg in legs.values()]
    return [max((share[core] for share in shares), default=0.0) for core in (0, 1)]


def faults(rounds):
    """Every leg in which replies were lost, damaged or refused."""
    return [
        {"round": number, "proxy": name, "leg": leg, **seen["faults"]}
        for number, legs in enumerate(rounds, 1)
        for name, by_leg in legs.items()
        for leg, seen in by_leg.items()
        if any(seen["faults"][kind] for kind in ("lost", "damaged", "refused"))
    ]


def markdown(result):
    """Everything about a run, for people."""
    parts = [preface(result), table(result), ratio_table(result), target_table(result), warnings(result)]
    return "\n\n".join(part for part in parts if part) + "\n"


def preface(result):
    facts = result["facts"]
    return (f"{facts['date']}, {facts['cores']} × {facts['cpu']}, Linux {facts['kernel']}; {facts['forebay']}, "
            f"{facts['nginx']}, {facts['rustc']}. Medians of {facts['plan']['rounds']} round(s), in brackets the "
            f"lowest and the highest; paced at {facts['rate']} exchanges a second. Added: more than directly.")


def table(result):
    names = list(result["figures"])
    rows = [row(["", *names])[0], row(["---", *["--:"] * len(names)])[0]]
    for key, heading, unit, *_ in FIGURES:
        cells = [cell(result["figures"][name].get(key)) for name in names]
        if any(cells):
            rows += row([f"{heading}, {unit}", *cells])
    return "\n".join(rows)


def row(cells):
    return ["| " + " | ".join(cells) + " |"]


def cell(figure):
    if figure is None:
        return ""
    low, high = min(figure["rounds"]), max(figure["rounds"])
    spread = f" ({number(low)}-{number(high)})" if len(figure["rounds"]) > 1 else ""
    return number(figure["median"]) + spread


def number(value):
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.1f}"


def ratio_table(result):
    if not result["ratios"]:
        return ""
    names = list(result["ratios"][0]["of"])
    rows = row(["ratio", "to", *names]) + row(["---", "---", *["--:"] * len(names)])
    for line in result["ratios"]:
        cells = [f"{line['of'][name]:.2f}" if line["of"][name] is not None else "" for name in names]
        rows += row([HEADINGS[line["figure"]], line["to"], *cells])
    return "\n".join(rows)


def target_table(result):
    if not result["targets"]:
        return ""
    rows = row(["target", "at most", "Forebay", "", "best rounds"]) + row(["---", "--:", "--:", "---", "--:"])
    for target in result["targets"]:
        of = f", × {target['to']}" if target["to"] else ", KiB"
        rows += row([HEADINGS[target["figure"]] + of, f"{target['most']:g}", f"{target['value']:.2f}",
                     "met" if target["met"] else "**missed**", f"{target['best']:.2f}"])
    return "\n".join(rows)


def warnings(result):
    lines = []
    if max(result["foreign"]) > 0.05:
        shares = " and ".join(f"{share:.0%} of core {core}" for core, share in enumerate(result["foreign"]))
        lines.append(f"**The machine was not quiet**: other work took up to {shares}. Latencies do not count.")
    for fault in result["faults"]:
        lines.append(f"**Faults** in round {fault['round']}, {fault['proxy']}, {fault['leg']}: {fault['lost']} lost, "
                     f"{fault['damaged']} damaged, {fault['refused']} refused; {'; '.join(fault['first'])}")
    return "\n\n".join(lines)
