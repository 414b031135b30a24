"""Names the readings that are outside the limits of sensors.csv. Exit status 1: there are some; 2: wrong use.

readings.csv has a column ``time`` and one for each sensor, by its name; an empty field means: not measured.
"""

import csv
import sys


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print("use: check_readings.py sensors.csv readings.csv", file=sys.stderr)
        return 2
    try:
        with open(arguments[0], newline="", encoding="utf-8") as file:
            limits = {row["name"]: (float(row["low"]), float(row["high"]), row) for row in csv.DictReader(file)}
        with open(arguments[1], newline="", encoding="utf-8") as file:
            readings = list(csv.DictReader(file))
        outside = 0
        for line, reading in enumerate(readings, start=2):
            for name, (low, high, sensor) in limits.items():
                text = (reading.get(name) or "").strip()
                if not text:
                    continue
                try:
                    value = float(text)
                except ValueError:
                    print(f"{arguments[1]}:{line}: {name} is {text!r}, which is no number", file=sys.stderr)
                    return 2
                if not low <= value <= high:
                    outside += 1
                    print(
                        f"{reading.get('time', '?')}  {sensor['label']} {text} {sensor['unit']}  ({sensor['action']})"
                    )
    except (OSError, KeyError, ValueError) as error:
        print(f"cannot read it: {error}", file=sys.stderr)
        return 2
    return 1 if outside else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
