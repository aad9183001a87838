"""check.py FOLDER INPUT.json RUN.json: computes with pandas what the job should have said, and compares.

FOLDER holds the data sets, INPUT.json is the job's input, RUN.json is {"result", "outputs"} of the run.
Ends with 0 and the number of figures compared, or with 1 and each difference.
"""

import heapq
import json
import math
import re
import sys
from datetime import datetime, timezone
from fractions import Fraction

import numpy as np
import pandas as pd

NULLS = ["", "NA", "NaN", "nan", "NULL", "null"]
folder, input_path, run_path = sys.argv[1:4]
job = json.load(open(input_path))
run = json.load(open(run_path))
result, outputs = run["result"], run["outputs"]
compared, differences = 0, []


def same(what, ours, theirs, relative=1e-9):
    """Counts a figure; `ours` is pandas', `theirs` the job's."""
    global compared
    compared += 1
    if isinstance(ours, float) and isinstance(theirs, (int, float)):
        equal = math.isclose(ours, theirs, rel_tol=relative, abs_tol=1e-12)
    else:
        equal = ours == theirs
    if not equal:
        differences.append(f"{what}: pandas {ours!r}, job {theirs!r}")


def load(data_set):
    """A table of texts; missing values are NaN."""
    if "rows" in data_set:
        return pd.DataFrame(data_set["rows"]).astype(str)
    frame = pd.read_csv(
        f"{folder}/{data_set['file']}", sep=data_set.get("delimiter", ","), dtype=str,
        keep_default_na=False, na_values=data_set.get("null_values", NULLS), encoding_errors="replace",
    )
    frame.columns = [name.strip() for name in frame.columns]
    return frame


table = load(job["data_set"])


def numbers(column):
    return pd.to_numeric(column, errors="coerce")


def names(columns):
    return [columns] if isinstance(columns, str) else list(columns)


def holds(condition, frame):
    """Rows for which a condition holds; False where a value is missing."""
    column, op = frame[condition["column"]], condition["op"]
    if op == "is_null":
        return column.isna()
    if op == "not_null":
        return column.notna()
    compare = {
        "eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b,
        "le": lambda a, b: a <= b, "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
    }
    if op in compare and "other_column" in condition:
        other = frame[condition["other_column"]]
        left, right = numbers(column), numbers(other)
        as_numbers = left.notna() & right.notna()
        there = column.notna() & other.notna()
        as_text = compare[op](column.fillna(""), other.fillna(""))
        return there & pd.Series(np.where(as_numbers, compare[op](left, right), as_text), frame.index)
    value = condition["value"]
    if op in compare:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return numbers(column).notna() & compare[op](numbers(column), value)
        return column.notna() & compare[op](column.fillna(""), value)
    if op in ("in", "not_in"):
        texts = [entry for entry in value if isinstance(entry, str)]
        listed = [entry for entry in value if not isinstance(entry, str)]
        found = column.isin(texts) | (numbers(column).isin(listed) & numbers(column).notna())
        return column.notna() & (found if op == "in" else ~found)
    if op == "between":
        return numbers(column).between(value[0], value[1])
    if op == "matches":
        return column.str.contains(value, regex=True, na=False)
    raise SystemExit(f"check.py does not know the condition {op}")


def all_hold(conditions, frame):
    rows = pd.Series(True, frame.index)
    for condition in conditions:
        rows &= holds(condition, frame)
    return rows


# ---- profiling ------------------------------------------------------------------------------------------

INTEGER = re.compile(r"[+-]?\d+")
DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
WORDS = {"true", "false", "yes", "no", "t", "f", "y", "n"}


def moment(text, format=None):
    """Seconds since 1970, or None."""
    try:
        found = datetime.strptime(text, format) if format else datetime.fromisoformat(text)
    except ValueError:
        return None
    return int((found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp())


def type_of(text):
    text = text.strip()
    if INTEGER.fullmatch(text):
        return "integer"
    if DECIMAL.fullmatch(text):
        return "decimal"
    if text.lower() in WORDS:
        return "boolean"
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text) and moment(text) is not None:
        return "date"
    if re.fullmatch(r"\d{4}-\d\d-\d\d[T ].*", text) and moment(text) is not None:
        return "datetime"
    return "text"


ADMITS = {
    "text": {"integer", "decimal", "boolean", "date", "datetime", "text"}, "decimal": {"integer", "decimal"},
    "datetime": {"date", "datetime"}, "integer": {"integer"}, "boolean": {"boolean"}, "date": {"date"},
}


def by_value(column, passes):
    """Applies a test to the different values, and the answers to the rows."""
    answers = {value: passes(value) for value in column.dropna().unique()}
    return column.map(answers).fillna(False).astype(bool)


def bounds(check):
    dates = any(isinstance(check.get(name), str) for name in ("min", "max"))
    low = check.get("min", -math.inf)
    high = check.get("max", math.inf)
    if dates:
        low = moment(low) if isinstance(low, str) else low
        high = moment(high) if isinstance(high, str) else high

    def passes(text):
        value = moment(text) if dates else (float(text) if DECIMAL.fullmatch(text.strip()) else None)
        if value is None:
            return False
        return low < value < high if check.get("exclusive") else low <= value <= high

    return passes


def listed(check):
    texts = {value for value in check["values"] if isinstance(value, str)}
    figures = {float(value) for value in check["values"] if not isinstance(value, str)}

    def passes(text):
        found = text in texts or (bool(DECIMAL.fullmatch(text.strip())) and float(text) in figures)
        return found != check.get("exclude", False)

    return passes


def judge(rule):
    """Rows evaluated, rows passed (both as masks), rows that may stand as evidence, and details."""
    check, details = rule["check"], {}
    kind = check["kind"]
    scope = all_hold(rule.get("where", []), table)
    if kind == "completeness":
        passed = table[names(check["columns"])].notna().all(axis=1)
        return scope, passed, scope & ~passed, details
    if kind in ("uniqueness", "duplicates"):
        columns = names(check.get("columns") or list(table.columns))
        evaluated = scope & table[columns].notna().all(axis=1) if kind == "uniqueness" else scope
        rows = table.loc[evaluated, columns]
        again = rows.duplicated(keep="first").reindex(table.index, fill_value=False)
        every = rows.duplicated(keep=False).reindex(table.index, fill_value=False)
        details["distinct"] = int((~rows.duplicated()).sum())
        details["repeated_keys"] = int((every & ~again).sum())
        return evaluated, ~(every if kind == "uniqueness" else again), again, details
    if kind == "comparison":
        condition = check["condition"]
        evaluated = scope & table[condition["column"]].notna()
        if "other_column" in condition:
            evaluated &= table[condition["other_column"]].notna()
        passed = holds(condition, table)
    elif kind == "conditional":
        evaluated = scope & all_hold(check["when"], table)
        passed = all_hold(check["then"], table)
    elif kind == "referential":
        columns = names(check["columns"])
        references = check["references"]
        other = load(references["data_set"]) if "data_set" in references else table
        known = set(other[names(references["columns"])].dropna().itertuples(index=False, name=None))
        evaluated = scope & table[columns].notna().all(axis=1)
        found = [key in known for key in table[columns].itertuples(index=False, name=None)]
        passed = pd.Series(found, table.index)
    elif kind == "freshness":
        column = table[check["column"]]
        seconds = column.map({text: moment(text, check.get("format")) for text in column.dropna().unique()})
        details["newest_seconds"] = int(seconds[scope].max())
        age = (moment(check["as_of"]) - details["newest_seconds"]) / 86400
        details["newest_age_days"] = float(age)
        if check.get("every_row"):
            evaluated = scope & column.notna()
            passed = seconds >= moment(check["as_of"]) - check["max_age_days"] * 86400
        else:
            newest = pd.Series(False, table.index)
            newest.iloc[0] = True
            return newest, newest & (age <= check["max_age_days"]), newest & False, details
    else:
        column = table[check["column"]]
        evaluated = scope & column.notna()
        tests = {
            "type": lambda text: type_of(text) in ADMITS[check["expected"]],
            "regex": lambda text: re.search(check["pattern"], text) is not None,
            "length": lambda text: check.get("min", 0) <= len(text) <= check.get("max", math.inf),
            "date_format": lambda text: moment(text, check["format"]) is not None,
        }
        passes = {"range": bounds, "set": listed}[kind](check) if kind in ("range", "set") else tests[kind]
        passed = by_value(column, passes)
    return evaluated, passed, evaluated & ~passed, details


def check_rule(rule, report, record, sums):
    what = f"rule {rule['id']}"
    evaluated, passed, evidence, details = judge(rule)
    count, good = int(evaluated.sum()), int((evaluated & passed).sum())
    newest = rule["check"]["kind"] == "freshness" and not rule["check"].get("every_row")
    same(f"{what}: evaluated", count, report["rows_evaluated"])
    same(f"{what}: passed", good, report["rows_passed"])
    same(f"{what}: failed", count - good, report["rows_failed"])
    if not newest:
        same(f"{what}: skipped", len(table) - count, report["rows_skipped"])
    for name, value in details.items():
        same(f"{what}: {name}", value, report["details"].get(name))
    status = "not_applicable"
    if count:
        status = "passed" if good / count >= rule.get("threshold", 1.0) else "failed"
        same(f"{what}: pass rate", good / count, report["pass_rate"])
    same(f"{what}: status", status, report["status"])
    same(f"{what}: record", report, {k: v for k, v in record.items() if k not in ("record", "evidence")})
    shown = [entry["row"] for entry in record["evidence"]]
    failing = {index + 1 for index in np.flatnonzero(evidence)}
    same(f"{what}: evidence size", min(len(failing), job.get("evidence_max", 10)), len(shown))
    same(f"{what}: evidence rows fail", [], [row for row in shown if row not in failing])
    for entry in record["evidence"]:
        row = table.iloc[entry["row"] - 1]
        for column, value in entry["values"].items():
            same(f"{what}: evidence", None if pd.isna(row[column]) else row[column], value)
        keys = names(job.get("key", []))
        if keys:
            key = entry["key"] if len(keys) > 1 else {keys[0]: entry["key"]}
            same(f"{what}: key", {name: None if pd.isna(row[name]) else row[name] for name in keys}, key)
    for bucket in [("all", "all"), ("dimension", report["dimension"])] + [
        ("column", column) for column in report["columns"]
    ]:
        total = sums.setdefault(bucket, [0, 0, {"passed": 0, "failed": 0, "not_applicable": 0}])
        total[0] += good
        total[1] += count
        total[2][status] += 1


def check_profile(name, profile):
    column = table[name]
    what = f"column {name}"
    there = column.dropna()
    same(f"{what}: count", len(there), profile["count"])
    same(f"{what}: nulls", int(column.isna().sum()), profile["nulls"])
    same(f"{what}: distinct", int(there.nunique()), profile["distinct"])
    counts = there.value_counts()
    kinds = {}
    for text, count in counts.items():
        kinds[type_of(text)] = kinds.get(type_of(text), 0) + int(count)
    same(f"{what}: types", kinds, {entry["type"]: entry["count"] for entry in profile["types"]})
    if len(there):
        fitting = [kind for kind in ADMITS if set(kinds) <= ADMITS[kind]]
        same(f"{what}: type", min(fitting, key=lambda kind: len(ADMITS[kind])), profile["inferred_type"])
        same(f"{what}: shortest", int(there.str.len().min()), profile["length_min"])
        same(f"{what}: longest", int(there.str.len().max()), profile["length_max"])
    if len(there) and set(kinds) <= {"integer", "decimal"}:
        figures = there.astype(float)
        same(f"{what}: min", float(figures.min()), float(profile["min"]))
        same(f"{what}: max", float(figures.max()), float(profile["max"]))
        same(f"{what}: mean", float(figures.mean()), profile["mean"])
        if len(there) > 1:
            same(f"{what}: deviation", float(figures.std()), profile["standard_deviation"])
        same(f"{what}: quantiles", 5, len(profile["quantiles"]))
        for entry in profile["quantiles"]:
            same(f"{what}: quantile {entry['q']}", float(figures.quantile(entry["q"])), entry["value"])
    elif len(there):
        same(f"{what}: min", there.min(), profile["min"])
        same(f"{what}: max", there.max(), profile["max"])
    top = profile["top_values"]
    if top is not None:
        expected = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0].encode()))[:10]
        same(f"{what}: top", [(text, int(n)) for text, n in expected], [(e["value"], e["count"]) for e in top])


def check_profiling():
    same("rows", len(table), result["rows"])
    records = {record["id"]: record for record in outputs if record["record"] == "rule"}
    same("one record per rule", len(job.get("rules", [])), len([r for r in outputs if r["record"] == "rule"]))
    sums = {}
    for rule, report in zip(job.get("rules", []), result["results"], strict=True):
        check_rule(rule, report, records[rule["id"]], sums)
    groups = [(("all", "all"), result)]
    groups += [(("dimension", entry["dimension"]), entry) for entry in result["dimensions"]]
    groups += [(("column", entry["column"]), entry) for entry in result["columns"]]
    for bucket, entry in groups:
        good, count, statuses = sums.get(bucket, [0, 0, {"passed": 0, "failed": 0, "not_applicable": 0}])
        same(f"{bucket} score", good / count if count else None, entry["score"])
        same(f"{bucket} rules", {"total": sum(statuses.values())} | statuses, entry["rules"])
    profiled = {record["column"]: record["profile"] for record in outputs if record["record"] == "column"}
    if job.get("profile", True):
        same("columns", set(job.get("profile_columns", table.columns)), set(profiled))
        for name, profile in profiled.items():
            check_profile(name, profile)
        for entry in result["columns"]:
            same(f"column {entry['column']}", profiled.get(entry["column"]), entry["profile"])


# ---- sampling -------------------------------------------------------------------------------------------

GOLDEN = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1


def mix(value):
    """SplitMix64's output function, on an array of uint64."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def scores(frame):
    start = mix(np.array([(job.get("seed", 0) + GOLDEN) & MASK], dtype=np.uint64))
    rows = frame.index.to_numpy().astype(np.uint64) + np.uint64(1)
    with np.errstate(over="ignore"):
        return pd.Series(mix(start + rows * np.uint64(GOLDEN)), frame.index)


def stratum_labels(frame, by):
    columns = {}
    for entry in by:
        if isinstance(entry, str):
            columns[entry] = frame[entry]
            continue
        bins, figures = entry["bins"], numbers(frame[entry["column"]])
        text = [f"below {bins[0]:g}"]
        text += [f"{low:g} to below {high:g}" for low, high in zip(bins, bins[1:])] + [f"{bins[-1]:g} and above"]
        place = np.searchsorted(bins, figures, side="right")
        label = pd.Series([text[p] for p in place], frame.index)
        columns[entry["column"]] = label.where(figures.notna(), "not a number").where(frame[entry["column"]].notna())
    if not columns:
        return pd.Series([()] * len(frame), frame.index)
    cleaned = [[None if pd.isna(value) else value for value in column] for column in columns.values()]
    return pd.Series(list(zip(*cleaned)), frame.index)


def share_out(population, taken, size, strategy):
    """Rows for each stratum."""
    least = strategy.get("min_per_stratum", 0)
    allotted = {label: max(min(least, count), taken.get(label, 0)) for label, count in population.items()}
    equal = strategy.get("allocation") == "equal"
    # In the order of labels as text, "no value" before all other texts.
    order = sorted(population, key=lambda label: [b"\0" if value is None else value.encode() for value in label])
    due = lambda label: Fraction(1, allotted[label] + 1) if equal else Fraction(
        population[label], 2 * allotted[label] + 1
    )
    line = [(-due(label), place, label) for place, label in enumerate(order) if allotted[label] < population[label]]
    heapq.heapify(line)
    for _ in range(size - sum(allotted.values())):
        if not line:
            break
        _, place, label = heapq.heappop(line)
        allotted[label] += 1
        if allotted[label] < population[label]:
            heapq.heappush(line, (-due(label), place, label))
    return allotted


def find_edges(frame, settings, score):
    """The edge cases, and the rows chosen for them, each with how many cases it stands for."""
    columns = settings.get("columns") or [name for name in table.columns if name not in names(job["key"])]
    cases = []
    for name in columns:
        column = frame[name]
        figures = numbers(column)
        if column.isna().any():
            cases.append((name, "no_value", None, column.isna()))
        if column.notna().any() and figures.notna().sum() == column.notna().sum() and figures.min() < figures.max():
            cases.append((name, "least", float(figures.min()), figures == figures.min()))
            cases.append((name, "greatest", float(figures.max()), figures == figures.max()))
        counts = column.value_counts()
        if len(counts) <= 100:
            for text in sorted(counts.index, key=lambda text: text.encode()):
                if counts[text] < settings.get("rare_below", 0.01) * len(frame):
                    cases.append((name, "rare_category", text, column == text))
    ordered = {name: place for place, name in enumerate(table.columns)}
    cases.sort(key=lambda case: ordered[case[0]])
    picks = []
    for place, case in enumerate(cases):
        rows = score[case[3]].sort_values(kind="stable").index[: settings.get("per_case", 1)]
        picks.append((int(case[3].sum()), place, list(rows)))
    room = job["sample_size"]
    if job["strategy"]["kind"] != "edge_cases":
        room = math.ceil(room * settings.get("share_max", 0.2))
    chosen, sampled = {}, [0] * len(cases)
    for turn in range(settings.get("per_case", 1)):
        for _, place, rows in sorted(picks):
            if turn < len(rows) and (rows[turn] in chosen or len(chosen) < room):
                chosen[rows[turn]] = chosen.get(rows[turn], 0) + 1
                sampled[place] += 1
    same("edge cases", len(cases), len(result["edge_cases"]))
    for case, count, edge in zip(cases, sampled, result["edge_cases"]):
        value = edge["value"] if edge["case"] in ("no_value", "rare_category") else float(edge["value"])
        ours = (case[0], case[1], case[2], int(case[3].sum()), count)
        same(f"edge {case[:3]}", ours, (edge["column"], edge["case"], value, edge["population"], edge["sampled"]))
    return chosen


def check_sampling():
    strategy = job["strategy"]
    kind = strategy["kind"]
    frame = table[all_hold(job.get("filters", []), table)]
    same("rows", len(table), result["population"]["rows"])
    same("rows matching", len(frame), result["population"]["rows_matching"])
    score = scores(frame)
    labels = stratum_labels(frame, strategy.get("by", []))
    population = {label: int(count) for label, count in labels.value_counts().items()}
    edges = {}
    if "edge_cases" in job or kind == "edge_cases":
        edges = find_edges(frame, job.get("edge_cases", {}), score)
    taken = labels[list(edges)].value_counts().to_dict() if edges else {}
    drawable = frame.index.isin(list(edges)) == False  # noqa: E712
    if kind == "risk_weighted":
        column = frame[strategy["column"]]
        default = strategy.get("default_weight", 0.0)
        weights = column.map(strategy["weights"]) if "weights" in strategy else numbers(column)
        weights = weights.fillna(default).astype(float).clip(lower=0.0)
        same("rows without weight", int((weights == 0).sum()), result["population"]["rows_without_weight"])
        drawable &= (weights > 0).to_numpy()
        evenly = ((score.to_numpy() >> np.uint64(11)).astype(float) + 1) / 2.0**53
        score = pd.Series(-np.log(evenly), frame.index) / weights.where(weights > 0)
    if kind == "edge_cases":
        allotted = {label: taken.get(label, 0) for label in population}
    else:
        allotted = share_out(population, taken, job["sample_size"], strategy if kind == "stratified" else {})
    chosen = set(edges)
    for label, count in allotted.items():
        rows = score[drawable & (labels == label).to_numpy()].sort_values(kind="stable").index
        chosen |= set(rows[: count - taken.get(label, 0)])
    same("sample size", len(chosen), result["sample_size"])
    same("records", len(chosen), len(outputs))
    same("rows drawn", sorted(row + 1 for row in chosen), [record["row"] for record in outputs])
    drawn = labels[sorted(chosen)].value_counts().to_dict() if chosen else {}
    by = [entry if isinstance(entry, str) else entry["column"] for entry in strategy.get("by", [])]
    same("strata", len(population), len(result["coverage"]))
    for entry in result["coverage"]:
        label = tuple(entry["stratum"][name] for name in by)
        count = population.get(label, 0)
        same(f"stratum {label}: population", count, entry["population"])
        if kind == "stratified":
            same(f"stratum {label}: allotted", allotted.get(label), entry["allotted"])
        same(f"stratum {label}: sampled", drawn.get(label, 0), entry["sampled"])
        same(f"stratum {label}: share", drawn.get(label, 0) / count if count else 0.0, entry["share"])
    keys = names(job["key"])
    for record in outputs:
        row = table.iloc[record["row"] - 1]
        key = record["key"] if len(keys) > 1 else {keys[0]: record["key"]}
        same("key", {name: None if pd.isna(row[name]) else row[name] for name in keys}, key)
        same("stratum", dict(zip(by, labels[record["row"] - 1])), record["stratum"])
        same("edge row", record["row"] - 1 in edges, record["reason"].startswith("edge case: "))
        for name, value in record["values"].items():
            same("value", None if pd.isna(row[name]) else row[name], value)
    for record, entry in zip(outputs, result["sample"]):
        same("result and record", {k: v for k, v in record.items() if k != "values"}, entry)


check_sampling() if "strategy" in job else check_profiling()
for difference in differences[:30]:
    print(difference)
print(f"{compared} figures compared, {len(differences)} differences")
sys.exit(1 if differences else 0)
