"""A built-in moving test scene: rooms and streets with people who walk through, drawn by numpy and OpenCV alone.

It knows nothing of models and of streams. Use: `Scene(seed).frame(index)` and `Scene(seed).boxes(index)`.
"""

from service.scene.scene import FPS, Scene

__all__ = ["FPS", "Scene"]
