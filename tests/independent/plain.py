"""plain.py FOLDER INPUT.json: the work of a job in plain Python, as one would write it by hand; without packages.

Of `execute_profiling_rules` it runs the rules (not the profile), of `intelligent_sampling` it draws a stratified sample.
Prints {"seconds", "figures"}: the time from opening the table on, and what a job must say as well.
"""

import csv
import heapq
import json
import random
import re
import sys
import time
from collections import Counter, defaultdict
from datetime import date, datetime

NULLS = {"", "NA", "NaN", "nan", "NULL", "null"}
folder, input_path = sys.argv[1:3]
job = json.load(open(input_path))
path = f"{folder}/{job['data_set']['file']}"


def names(columns):
    return [columns] if isinstance(columns, str) else list(columns)


def rows():
    with open(path, newline="") as file:
        reader = csv.reader(file)
        yield next(reader)
        for row in reader:
            yield [None if value in NULLS else value for value in row]


def number(value):
    try:
        return float(value)
    except ValueError:
        return None


def moment(value):
    try:
        return datetime.fromisoformat(value.replace("Z", "")).date()
    except ValueError:
        return None


def check_of(rule, index):
    """A function from a row to True, False or None (it says nothing of the row)."""
    check = rule["check"]
    kind = check["kind"]
    at = index[check["column"]] if "column" in check else None
    if kind == "completeness":
        columns = [index[name] for name in names(check["columns"])]
        return lambda row: all(row[column] is not None for column in columns)
    if kind == "type":
        test = number if check["expected"] == "decimal" else moment
        return lambda row: None if row[at] is None else test(row[at]) is not None
    if kind == "regex":
        search = re.compile(check["pattern"]).search
        return lambda row: None if row[at] is None else search(row[at]) is not None
    if kind == "range":
        low, high = check.get("min"), check.get("max")
        if isinstance(low, str):
            low, high, read = date.fromisoformat(low), date.fromisoformat(high), moment
        else:
            read = number

        def within(row):
            if row[at] is None:
                return None
            value = read(row[at])
            return value is not None and (low is None or value >= low) and (high is None or value <= high)

        return within
    if kind == "set":
        values = set(check["values"])
        return lambda row: None if row[at] is None else row[at] in values
    if kind == "length":
        return lambda row: None if row[at] is None else check["min"] <= len(row[at]) <= check["max"]
    if kind == "date_format":

        def written(row):
            if row[at] is None:
                return None
            try:
                datetime.strptime(row[at], check["format"])
                return True
            except ValueError:
                return False

        return written
    if kind == "comparison":
        one, other = index[check["condition"]["column"]], index[check["condition"]["other_column"]]
        return lambda row: None if row[one] is None or row[other] is None else float(row[one]) <= float(row[other])
    if kind == "conditional":
        when, then = index[check["when"][0]["column"]], index[check["then"][0]["column"]]
        return lambda row: None if row[when] is not None else row[then] is None
    return None


def only_of(rule, index):
    conditions = [(index[condition["column"]], condition["value"]) for condition in rule.get("where", [])]
    return lambda row: all(row[at] == value for at, value in conditions)


def rules():
    table = rows()
    index = {name: at for at, name in enumerate(next(table))}
    plain = []
    keyed = []
    for rule in job["rules"]:
        check = rule["check"]
        function = check_of(rule, index)
        if function:
            plain.append((rule["id"], only_of(rule, index), function))
        elif check["kind"] == "uniqueness":
            keyed.append((rule["id"], [index[name] for name in names(check["columns"])], Counter()))
    figures = {rule["id"]: [0, 0] for rule in job["rules"]}
    seen, newest, referred, references = set(), None, set(), []
    duplicates = next((rule["id"] for rule in job["rules"] if rule["check"]["kind"] == "duplicates"), None)
    fresh = next((rule for rule in job["rules"] if rule["check"]["kind"] == "freshness"), None)
    refers = next((rule for rule in job["rules"] if rule["check"]["kind"] == "referential"), None)
    for row in table:
        for name, only, function in plain:
            if only(row):
                verdict = function(row)
                if verdict is not None:
                    figures[name][0 if verdict else 1] += 1
        for _, columns, counter in keyed:
            key = tuple(row[column] for column in columns)
            if None not in key:
                counter[key] += 1
        if duplicates:
            key = tuple(row)
            figures[duplicates][1 if key in seen else 0] += 1
            seen.add(key)
        if fresh:
            value = row[index[fresh["check"]["column"]]]
            newest = max(newest or value, value)
        if refers:
            referred.add(row[index[refers["check"]["references"]["columns"]]])
            references.append(row[index[refers["check"]["columns"]]])
    for name, _, counter in keyed:
        once = sum(1 for count in counter.values() if count == 1)
        figures[name] = [once, sum(counter.values()) - once]
    if refers:
        found = sum(1 for value in references if value in referred)
        figures[refers["id"]] = [found, len(references) - found]
    # Of freshness only the newest value is asked.
    if fresh:
        figures.pop(fresh["id"])
    return figures


def sample():
    table = rows()
    index = {name: at for at, name in enumerate(next(table))}
    by = [index[name] for name in job["strategy"]["by"]]
    key = [index[name] for name in names(job["key"])]
    shown = key + [index[name] for name in job["include"]]
    draw = random.Random(job["seed"]).random
    wanted = job["sample_size"]
    strata = defaultdict(lambda: [0, []])
    for row in table:
        stratum = strata[tuple(row[column] for column in by)]
        stratum[0] += 1
        entry = (draw(), stratum[0], [row[column] for column in shown])
        if len(stratum[1]) < wanted:
            heapq.heappush(stratum[1], entry)
        elif entry > stratum[1][0]:
            heapq.heapreplace(stratum[1], entry)
    total = sum(count for count, _ in strata.values())
    # Sainte-Lagüe, after so many from each.
    least = job["strategy"].get("min_per_stratum", 0)
    shares = {name: min(least, count) for name, (count, _) in strata.items()}
    while sum(shares.values()) < wanted:
        open_strata = [name for name, (count, _) in strata.items() if shares[name] < count]
        best = max(open_strata, key=lambda name: strata[name][0] / (2 * shares[name] + 1))
        shares[best] += 1
    drawn = [row for name, share in shares.items() for _, _, row in heapq.nlargest(share, strata[name][1])]
    return {"rows": total, "strata": len(strata), "drawn": len(drawn)}


began = time.perf_counter()
figures = sample() if "strategy" in job else rules()
print(json.dumps({"seconds": time.perf_counter() - began, "figures": figures}))
