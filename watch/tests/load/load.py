#!/usr/bin/python3
# SPDX-License-Identifier: MPL-2.0
"""What `vlmcaption-watch` takes beside the model: cameras on loopback RTSP, answers from a script.

You see:  a line a minute, then processor, memory with its slope, bytes written an hour, captions.
You need: what pipelines/rtsp-server.py needs, and both crates built; GST_PLUGIN_PATH names the plugin.

    watch/tests/load/load.py target/release/vlmcaption-watch [--cameras 16] [--minutes 30]

One server sends one H.264 stream, 640x360 with 10 frames a second, to every camera. Each is decoded as
`decode = "auto"` has it, asked for a caption and one question every 4 seconds, and has a ring for clips. The
backend is `mock`, which answers at once: what is measured is all but the model.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
TICKS = os.sysconf("SC_CLK_TCK")
# The first minutes fill rings and caches.
WARM_UP = 300


def look(pid):
    """Processor seconds, resident bytes, bytes handed to the disk."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().split("\n")
    resident = next(int(line.split()[1]) for line in status if line.startswith("Rss:"))
    io = dict(line.split(": ") for line in pathlib.Path(f"/proc/{pid}/io").read_text().splitlines())
    return (int(fields[11]) + int(fields[12])) / TICKS, resident * 1024, int(io["write_bytes"])


def slope(points):
    """Least squares, in units of y for one of x."""
    n = len(points)
    x0 = sum(x for x, _ in points) / n
    y0 = sum(y for _, y in points) / n
    over = sum((x - x0) ** 2 for x, _ in points)
    return sum((x - x0) * (y - y0) for x, y in points) / over if over else 0.0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--cameras", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--folder", help="where the store is put; on a disk, not in memory")
    options = parser.parse_args()
    processes = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        try:
            return measure(options, pathlib.Path(folder), processes)
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            for process in processes:
                process.wait(30)


def measure(options, folder, processes):
    server = subprocess.Popen(
        [ROOT / "pipelines/rtsp-server.py", "--port", "0", "--pattern", "ball", "--framerate", "10"],
        stdout=subprocess.PIPE, text=True)
    processes.append(server)
    url = server.stdout.readline().strip()
    if not url.startswith("rtsp://"):
        sys.exit("the RTSP server did not begin; run pipelines/rtsp-server.py by hand to see why")

    script = folder / "mock.json"
    script.write_text(json.dumps([{"text": f"A white ball is at place {n} of a black field."} for n in range(17)]))
    file = folder / "watch.toml"
    file.write_text(
        f'[server]\nlisten = "127.0.0.1:0"\n[storage]\npath = "{folder}/store"\nkeep-free = "1MB"\n'
        f'[model]\nbackend = "mock"\npath = "{script}"\n[defaults]\nwindow = 4\nstride = 4\n'
        + "".join(
            f'[[camera]]\nid = "c{n}"\nurl = "{url}"\n[[camera.alarm]]\nid = "fire"\n'
            'question = "Is there a fire?"\nclip = { before = "10s", after = "5s", longest = "60s" }\n'
            for n in range(options.cameras)))
    log = open(folder / "log", "w", encoding="utf-8")
    watch = subprocess.Popen([options.program, "run", "--config", file], stdout=log, stderr=log)
    processes.append(watch)

    begin = time.monotonic()
    points = []
    load = []
    while (passed := time.monotonic() - begin) < 60 * options.minutes:
        if watch.poll() is not None or server.poll() is not None:
            sys.exit("it ended early:\n" + (folder / "log").read_text()[-2000:])
        points.append((passed, *look(watch.pid)))
        load.append(os.getloadavg()[0])
        if len(points) % 12 == 1:
            _, used, resident, written = points[-1]
            print(f"{passed / 60:5.1f} min: {used:7.1f} s of processor, {resident / 1e6:6.1f} MB, "
                  f"{written / 1e6:6.1f} MB written, load {load[-1]:.1f}", flush=True)
        time.sleep(5)

    # Half of a short run is warm-up.
    after = min(WARM_UP, 30 * options.minutes)
    steady = [point for point in points if point[0] >= after]
    first, last = steady[0], steady[-1]
    seconds = last[0] - first[0]
    print(f"{options.cameras} cameras, {seconds / 60:.0f} minutes after the first {after / 60:.0f}, load "
          f"{min(load):.0f} to {max(load):.0f} on {os.cpu_count()} cores:")
    print(f"  processor    {100 * (last[1] - first[1]) / seconds:.1f} % of a core")
    print(f"  memory       {last[2] / 1e6:.0f} MB at the end, at most {max(p[2] for p in points) / 1e6:.0f} MB, "
          f"{slope([(p[0] / 3600, p[2] / 1e6) for p in steady]):+.1f} MB an hour")
    print(f"  written      {(last[3] - first[3]) / seconds * 3600 / 1e6:.0f} MB an hour")

    watch.send_signal(signal.SIGTERM)
    if watch.wait(60) != 0:
        sys.exit(f"it ended with {watch.returncode}")
    processes.remove(watch)
    lines = subprocess.run(
        [options.program, "export", "--config", file, "--from", "2000-01-01", "--to", "2999-01-01"],
        capture_output=True, text=True, check=False)
    if lines.returncode != 0:
        sys.exit(f"export: {lines.stderr}")
    captions = [json.loads(line) for line in lines.stdout.splitlines()]
    heard = {caption["camera"] for caption in captions}
    size = sum(path.stat().st_size for path in (folder / "store").rglob("*") if path.is_file())
    print(f"  kept         {len(captions)} captions of {len(heard)} cameras, {size / 1e6:.1f} MB")
    if len(heard) != options.cameras:
        sys.exit(f"{options.cameras - len(heard)} cameras have no caption:\n" + (folder / "log").read_text()[-2000:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
