"""Reports as the commands make them, small and by hand."""

from __future__ import annotations

MACHINE = {
    "cpu": "Some CPU <1>", "cores": 2, "vectors": "avx512", "system": "Linux x86_64", "python": "3.11.0",
    "versions": {"numpy": "2.0.0", "onnxruntime": "1.20.0", "openvino": None}, "load_average": 0.5,
    "other_programs_cores": 0.25,
}  # fmt: skip


def dense_row(model="people", ratio=1.25, **fields):
    return {
        "model": model, "size": "640x384", "threads": 1, "gmacs": 0.8181, "ours_ms": 8.0, "ours_tensor_ms": 7.0,
        "ours_reason": None, "ours_ingest": "inside", "onnxruntime_ms": 10.0, "onnxruntime_tensor_ms": 9.0,
        "onnxruntime_reason": None, "onnxruntime_ingest": "cv2.LUT", "onnxruntime_ratio": ratio, "openvino_ms": None,
        "openvino_tensor_ms": None, "openvino_reason": "not installed", "openvino_ratio": None, "best": "onnxruntime",
        "ratio_best": ratio, "ratio_best_tensor": 1.5, **fields,
    }  # fmt: skip


def dense_report(*rows, threads=1):
    return {
        "kind": "dense", "threads": threads, "precision": "float32", "rounds": 15,
        "against": ["onnxruntime", "openvino"], "models": list(rows or [dense_row()]), "geometric_mean": 1.25,
        "geometric_mean_tensor": 1.5, "machine": MACHINE,
    }  # fmt: skip


def video_report(**fields):
    ms = {"frame": {"mean": 2.5, "p50": 2.0, "p99": 9.0}, "jpeg": {"mean": 3.5, "p50": 3.0, "p99": 10.0}}
    efficiency = {"frames": 9, "limit": 0.1, "speed_up": 4.0, "reduction": 5.0, "efficiency": 0.8125}
    series = {"frame_ms": [9.0, 2.0, 3.0], "jpeg_ms": [10.0, 3.0, 4.0], "compute_fraction": [1.0, 0.1, 0.2]}
    names = ("ours_budget", "ours_exact", "ours_dense", "onnxruntime")
    return {
        "kind": "video", "model": "people", "size": "640x384", "clip": "street.mp4", "start": 200, "every": 2,
        "frames": 100, "threads": 1, "against": ["onnxruntime"], "reasons": {"onnxruntime": None},
        "compute_fraction": {"mean": 0.1234, "median": 0.1}, "agreement": {"iou50": 1.0, "iou75": 0.997},
        "noise_floor": None, "bit_identical": True, "ms": dict.fromkeys(names, ms), "best": "onnxruntime",
        "ratio": 4.25, "ratio_jpeg": 3.125, "ratio_exact": 1.0625, "ratio_dense": 1.0,
        "conversion_efficiency": {"all": efficiency, "sparse": {**efficiency, "efficiency": None, "frames": 0}},
        "series": dict.fromkeys(names, series), "machine": MACHINE, **fields,
    }  # fmt: skip


def streams_report(**fields):
    run = {
        "streams": 4, "fits": True, "fps_asked": 15.0, "fps": 14.97, "offered": 300, "results": 299, "dropped": 1,
        "age_ms": {"p50": 12.5, "p99": 87.5, "max": 90.0}, "cpu": 1.5, "compute_fraction": 0.25,
    }  # fmt: skip
    more = {"kind": "streams", "model": "people", "size": "640x384", "workers": 2, "limit_ms": 200.0, "searched": True}
    return {**run, **more, "runs": [run], "ages_ms": [10.0, 12.0], "machine": MACHINE, **fields}


def technique_row(key="caching", **fields):
    series = {"frame_ms": [2.0, 3.0], "work": [0.1, 0.2], "error": [0.01, 0.02]}
    return {
        "key": key, "label": f"+ {key} <on>", "note": None, "reason": None, "mean_ms": 2.5, "p50_ms": 2.25,
        "p99_ms": 9.75, "fps": 400.0, "speed": 3.5, "model_bytes": 2 << 20, "stream_bytes": 1 << 20,
        "workspace_bytes": 1 << 19, "matrix_bytes": 0, "joules": 0.0025, "energy": "estimated", "work": 0.155,
        "agreement": {"iou50": 1.0, "iou75": 0.997}, "error_mean": 0.015, "error_max": 0.02, "drift": 2.0,
        "series": series, **fields,
    }  # fmt: skip


def techniques_report(*rows, **fields):
    left_out = dict.fromkeys(technique_row(), None)
    left_out |= {"key": "fft", "label": "+ FFT", "reason": "no kernel of 7x7 or more in this model"}
    model = {
        "model": "people", "size": "640x384", "threads": 1, "precision": "float32", "frames": 40, "clip": "street.mp4",
        "start": 200, "every": 1, "samples_apart": True,
        "energy": "estimated: some pJ", "rows": [*(rows or [technique_row()]), left_out], "all_over_caching": 1.625,
        "float32_over_caching": 2.0,
        "machine": MACHINE, **fields,
    }  # fmt: skip
    return {"kind": "techniques", "models": [model], "machine": MACHINE}
