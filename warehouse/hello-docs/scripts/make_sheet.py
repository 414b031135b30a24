"""Makes the page to hang beside the box: sensors.csv in, one printable HTML page out. Same table, same bytes."""

import csv
import html
import sys
from pathlib import Path

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sensor box 4: limits</title>
<style>
  body {{ font: 1.05rem/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }}
  table {{ border-collapse: collapse; width: 100%; }}
  th, td {{ border-bottom: 1px solid #999; padding: .5rem; text-align: left; vertical-align: top; }}
  td.limit {{ text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }}
</style>
</head>
<body>
<h1>Sensor box 4: limits</h1>
<table>
<thead>
<tr><th scope="col">Reading</th><th scope="col">From</th><th scope="col">To</th><th scope="col">Do</th></tr>
</thead>
<tbody>
{rows}
</tbody>
</table>
</body>
</html>
"""

ROW = (
    '<tr><th scope="row">{label}</th><td class="limit">{low} {unit}</td>'
    '<td class="limit">{high} {unit}</td><td>{action}</td></tr>'
)


def main(table: Path, page: Path) -> None:
    with open(table, newline="", encoding="utf-8") as file:
        sensors = list(csv.DictReader(file))
    rows = [ROW.format(**{name: html.escape(value) for name, value in sensor.items()}) for sensor in sensors]
    page.write_text(PAGE.format(rows="\n".join(rows)), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
