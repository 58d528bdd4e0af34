"""An RTSP server on 127.0.0.1 with a moving test picture, for the system's Python, which has GStreamer's bindings.

`python3 rtsp_server.py PORT [USER PASSWORD]`; PORT 0 is any free one. Says "listening PORT" when it may be asked.
The stream is /cam: 160x120, 15 frames a second.
"""

from __future__ import annotations

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
gi.require_version("GstRtsp", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

PICTURE = "videotestsrc is-live=true pattern=ball ! video/x-raw,width=160,height=120,framerate=15/1"
ENCODERS = (
    ("x264enc", "videoconvert ! x264enc tune=zerolatency key-int-max=15 ! rtph264pay name=pay0 config-interval=1"),
    ("openh264enc", "videoconvert ! openh264enc gop-size=15 ! rtph264pay name=pay0 config-interval=1"),
    ("jpegenc", "jpegenc ! rtpjpegpay name=pay0"),
)


def main() -> None:
    Gst.init(None)
    encode = next((line for name, line in ENCODERS if Gst.ElementFactory.find(name)), None)
    if encode is None:
        sys.exit("no encoder")
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(sys.argv[1])
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( {PICTURE} ! {encode} )")
    factory.set_shared(True)
    if len(sys.argv) == 4:
        user, password = sys.argv[2:]
        auth = GstRtspServer.RTSPAuth()
        token = GstRtspServer.RTSPToken()
        token.set_string(GstRtspServer.RTSP_TOKEN_MEDIA_FACTORY_ROLE, "viewer")
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
        server.set_auth(auth)
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role("viewer", "media.factory.access", True)
        permissions.add_permission_for_role("viewer", "media.factory.construct", True)
        factory.set_permissions(permissions)
        _ = GstRtsp
    server.get_mount_points().add_factory("/cam", factory)
    if not server.attach(None):
        sys.exit("the port is taken")
    print("listening", server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
