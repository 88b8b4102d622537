"""Whole-process figures: start-up, speed and memory of the installed command (``make bench``).

Every figure is taken from outside, by the operating system's own account of a finished process: wall-clock seconds,
processor seconds and peak resident memory. What goes on inside, stage by stage, is asked of ``affuse bench`` on the
demo clip. ``--data`` names the folder of the datasets, whose clips are measured; without it, the demo clip is.
``--memory`` also loops a clip to 1, 3, 10 and 30 minutes and draws the peak memory against the length. ``--recording
FILE --minutes N`` loops any recording to N minutes and measures nothing but its analysis, beside decoding alone: on a
machine that others use too, the ratio of the processor's seconds says more than the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLIP_SECONDS = 19.69
MINUTES = (1, 3, 10, 30)


@dataclass(frozen=True)
class Run:
    """What one finished process took: seconds by the clock and by the processor, and peak memory in MB."""

    wall: float
    cpu: float
    peak: float


def run(command: list[str]) -> Run:
    """Run a command to its end and measure it. Raises SystemExit, with what it printed, where it fails."""
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{output.read().decode()}")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def repeat(command: list[str], times: int) -> Run:
    """Medians over several runs after a warm-up."""
    run(command)
    runs = [run(command) for _ in range(times)]
    return Run(*(statistics.median(getattr(r, name) for r in runs) for name in ("wall", "cpu", "peak")))


def loop(source: Path, target: Path, seconds: float) -> None:
    """Write ``source`` again and again, without decoding it, until ``target`` lasts ``seconds``."""
    import av

    with av.open(str(target), "w") as output:
        offset, streams = 0.0, {}
        while offset < seconds:
            with av.open(str(source)) as clip:
                length = clip.duration / av.time_base
                for stream in clip.streams:
                    if stream.type in {"video", "audio"} and stream.index not in streams:
                        streams[stream.index] = output.add_stream_from_template(stream)
                for packet in clip.demux():
                    if packet.dts is None or packet.stream.index not in streams:
                        continue
                    shift = round(offset / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = streams[packet.stream.index]
                    output.mux(packet)
            offset += length


def measure_speed(
    affuse: list[str], clip: Path, transcript: Path | None, seconds: float, times: int
) -> dict[str, float]:
    """Analyse one clip several times, start-up included."""
    words = [] if transcript is None else ["--transcript", str(transcript)]
    figures = repeat([*affuse, "analyze", str(clip), *words, "--json"], times)
    return {
        "clip_seconds": seconds,
        "wall_seconds": round(figures.wall, 2),
        "cpu_seconds": round(figures.cpu, 2),
        "times_real_time": round(seconds / figures.wall, 2),
        "peak_mb": round(figures.peak),
    }


def measure_import(python: str, times: int) -> dict[str, float]:
    """Seconds that ``import affuse`` adds to the start of the interpreter."""
    bare = repeat([python, "-c", "pass"], times).wall
    whole = repeat([python, "-c", "import affuse"], times).wall
    return {"import_seconds": round(whole - bare, 3), "interpreter_seconds": round(bare, 3)}


def measure_stages(affuse: list[str], times: int) -> list[dict[str, object]]:
    """What ``affuse bench`` says about the demo clip, with one thread and with two."""
    demo = ["--clip", str(ROOT / "demo" / "clip.mp4"), "--transcript", str(ROOT / "demo" / "clip.srt")]
    command = [*affuse, "bench", *demo, "--json", "--analyses", str(times)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{result.stderr}")
    figures: list[dict[str, object]] = json.loads(result.stdout)
    return figures


def measure_memory(affuse: list[str], clip: Path) -> dict[str, dict[str, float]]:
    """Peak memory of analysing a clip that is looped to several lengths."""
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for minutes in MINUTES:
            video = Path(folder) / f"{minutes}.mp4"
            loop(clip, video, minutes * 60)
            result = run([*affuse, "analyze", str(video), "--out", str(Path(folder) / "out")])
            figures[str(minutes)] = {"peak_mb": round(result.peak), "wall_seconds": round(result.wall, 1)}
            print(f"{minutes:>3} min: {result.peak:.0f} MB, {result.wall:.1f} s", flush=True)
            video.unlink()
    return figures


DECODE = """
import sys
import av
with av.open(sys.argv[1]) as container:
    stream = container.streams.video[0]
    stream.thread_type, stream.codec_context.thread_count = "AUTO", 2
    stream.codec_context.skip_frame = sys.argv[2]
    for frame in container.decode(stream):
        pass
"""


def measure_recording(affuse: list[str], source: Path, minutes: float, with_files: bool) -> dict[str, float]:
    """The analysis of a recording looped to some minutes, beside decoding alone; and with all files of results."""
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "looped.mp4"
        loop(source, video, minutes * 60)
        every, needed = (run([sys.executable, "-c", DECODE, str(video), skip]) for skip in ("DEFAULT", "NONREF"))
        whole = run([*affuse, "analyze", str(video), "--json"])
        files = run([*affuse, "analyze", str(video), "--out", str(Path(folder) / "out")]) if with_files else None
    return {
        "minutes": minutes,
        "cpu_seconds": round(whole.cpu, 1),
        "wall_seconds": round(whole.wall, 1),
        "peak_mb": round(whole.peak),
        "cpu_seconds_decoding_every_frame": round(every.cpu, 1),
        "cpu_seconds_decoding_frames_that_others_need": round(needed.cpu, 1),
        "cpu_ratio_to_decoding_every_frame": round(whole.cpu / every.cpu, 2),
        "wall_seconds_decoding_every_frame": round(every.wall, 1),
        "times_real_time": round(minutes * 60 / whole.wall, 1),
        **(
            {}
            if files is None
            else {"with_files_cpu_seconds": round(files.cpu, 1), "with_files_peak_mb": round(files.peak)}
        ),
    }


def draw_memory(figures: dict[str, dict[str, float]], path: Path) -> None:
    """Draw peak memory against the length of the recording."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    minutes = [int(m) for m in figures]
    peaks = [f["peak_mb"] for f in figures.values()]
    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    axes.plot(minutes, peaks, marker="o", color="#0072B2")
    for x, y in zip(minutes, peaks, strict=True):
        axes.annotate(f"{y:.0f} MB", (x, y), textcoords="offset points", xytext=(0, 8), ha="center")
    axes.axhline(600, color="#D55E00", linestyle="--", linewidth=1)
    axes.annotate(
        "limit: 600 MB", (minutes[-1], 600), textcoords="offset points", xytext=(0, 4), ha="right", color="#D55E00"
    )
    axes.set(xlabel="length of the video in minutes", ylabel="peak memory in MB", ylim=(0, 700), title="affuse analyze")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("AFFUSE_DATA"), help="folder of the datasets")
    parser.add_argument("--memory", action="store_true", help="measure memory against length too (minutes)")
    parser.add_argument("--times", type=int, default=3, help="runs to take the median of")
    parser.add_argument("--out", type=Path, default=ROOT / "bench-out", help="folder for bench.json and memory.png")
    parser.add_argument("--recording", type=Path, help="measure the analysis of this recording and nothing else")
    parser.add_argument("--minutes", type=float, default=10, help="length to which --recording is looped")
    parser.add_argument("--files", action="store_true", help="of --recording, measure all files of results too")
    options = parser.parse_args()
    affuse = [sys.executable, "-m", "affuse.cli"]
    if options.recording:
        print(json.dumps(measure_recording(affuse, options.recording, options.minutes, options.files), indent=2))
        return
    clip, transcript, seconds = ROOT / "demo" / "clip.mp4", ROOT / "demo" / "clip.srt", 0.0
    if options.data:
        clip, transcript, seconds = Path(options.data) / "clips" / "WolfgangLanger_Pexels.mp4", None, CLIP_SECONDS
    else:
        import av

        with av.open(str(clip)) as container:
            seconds = container.duration / av.time_base
    figures: dict[str, object] = {"import": measure_import(sys.executable, 5)}
    figures["analyze"] = measure_speed(affuse, clip, transcript, seconds, options.times)
    figures["stages"] = measure_stages(affuse, options.times)
    print(json.dumps(figures, indent=2), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.memory:
        figures["memory"] = measure_memory(affuse, clip)
        draw_memory(figures["memory"], options.out / "memory.png")  # type: ignore[arg-type]
    (options.out / "bench.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
