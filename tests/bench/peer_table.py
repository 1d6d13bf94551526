"""Lines of compare.sh's results into a table: peer_table.py RESULTS [--row NAME]

Of each program in each round the median run; then the median of the rounds (the least and the most in brackets). A ratio is the peer's time
over jepa's in the same round. "cpu" is the processor time of all threads per run, the mean: on a machine that others use it is the truer clock for one thread
(waiting threads may spin, so not for several); where the two clocks of one thread part by more than a tenth the line says so.
"""
import argparse
import json
import statistics


def numbers(r):
    """wall ms, cpu ms, GFLOP/s or None, bytes after the first run, peak bytes"""
    if r["by"] == "jepa":
        wall, cpu, flops, first = 1e3 * r["seconds"], 1e3 * r["cpu_seconds"], r.get("gflop", 0) * 1e9, r.get("rss_first_bytes", 0)
    else:
        wall, cpu, flops, first = statistics.median(r["wall_ms"]), statistics.mean(r["cpu_ms"]), r.get("flops", 0), r["after_first_bytes"]
    return {"wall": wall, "cpu": cpu, "flops": flops, "first": first, "peak": r["peak_bytes"]}


def spread(values, form="{:.2f}"):
    m = form.format(statistics.median(values))
    return m if len(values) == 1 else m + " [" + form.format(min(values)) + "–" + form.format(max(values)) + "]"


def show(row, lines):
    print(row)
    by = {}
    for r in lines:
        by.setdefault(r["by"], {})[r["round"]] = r
    ours = {k: numbers(r) for k, r in by.get("jepa", {}).items()}
    flops = next((n["flops"] for n in ours.values() if n["flops"]), 0)
    for name in ["jepa"] + sorted(n for n in by if n != "jepa"):
        if name not in by:
            continue
        n = {k: numbers(r) for k, r in by[name].items()}
        any_line = next(iter(by[name].values()))
        wall, cpu = (spread([v[k] for v in n.values()], "{:.0f}") for k in ("wall", "cpu"))
        text = f"  {name:<13} {wall} ms, cpu {cpu} ms"
        f = next((v["flops"] for v in n.values() if v["flops"]), flops)
        if f:
            text += f", {f / statistics.median(v['wall'] for v in n.values()) / 1e6:.1f} GFLOP/s"
        text += f", MiB {statistics.median(v['first'] for v in n.values()) / 2**20:.0f} after the first, {statistics.median(v['peak'] for v in n.values()) / 2**20:.0f} peak"
        if "masks" in any_line:
            rounds = [r["masks"] for r in by[name].values()]
            text += f", context + target tokens {sum(g[0] for r in rounds for g in r) / len(rounds):.0f} + {sum(g[1] for r in rounds for g in r) / len(rounds):.0f}"
        if "context_tokens" in any_line:
            text += ", context + target tokens " + " + ".join(f"{statistics.mean(r[k] for r in by[name].values()):.0f}" for k in ("context_tokens", "target_tokens"))
        if any_line.get("took", any_line.get("precision")) != any_line.get("precision"):
            text += f" (it took {any_line['took']})"
        print(text)
        both = sorted(set(n) & set(ours))
        if name != "jepa" and both:
            print(f"    ratio to jepa {spread([n[k]['wall'] / ours[k]['wall'] for k in both])}; by cpu {spread([n[k]['cpu'] / ours[k]['cpu'] for k in both])}; "
                  f"peak memory of jepa / this {spread([ours[k]['peak'] / n[k]['peak'] for k in both])}")
        if any(v["wall"] > 1.1 * v["cpu"] for v in n.values()) and any_line["threads"] == 1:
            print("    the machine was busy: the wall's clock is no measure here")


def main():
    a = argparse.ArgumentParser()
    a.add_argument("results"), a.add_argument("--row")
    o = a.parse_args()
    rows = {}
    for line in open(o.results):
        r = json.loads(line)
        rows.setdefault(r["row"], []).append(r)
    for row, lines in rows.items():
        if o.row in (None, row):
            show(row, lines)
    if not o.row:
        print("versions:", "; ".join(sorted({r["version"] for lines in rows.values() for r in lines if "version" in r})))


main()
