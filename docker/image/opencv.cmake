# OpenCV as the server needs it: pixels, drawing, JPEG, PNG, WebP and cameras of this machine (V4L). What the published wheel has
# beside that is 150 MB: FFmpeg (videos are PyAV's), LAPACK, neural networks, and formats of pictures that no limit is checked for.
set(BUILD_LIST "core,imgproc,imgcodecs,videoio,python3" CACHE STRING "")
set(CMAKE_BUILD_TYPE Release CACHE STRING "")
set(ENABLE_CONFIG_VERIFICATION OFF CACHE BOOL "")

foreach(part FFMPEG GSTREAMER 1394 OBSENSOR LAPACK EIGEN IPP ITT ADE OPENCL VULKAN VTK PROTOBUF FLATBUFFERS
        OPENEXR OPENJPEG JASPER TIFF AVIF JPEGXL GDAL GDCM SPNG
        IMGCODEC_HDR IMGCODEC_SUNRASTER IMGCODEC_PXM IMGCODEC_PFM IMGCODEC_GIF)
    set(WITH_${part} OFF CACHE BOOL "")
endforeach()
foreach(part OPENEXR ITT IPP_IW opencv_apps JAVA TESTS PERF_TESTS)
    set(BUILD_${part} OFF CACHE BOOL "")
endforeach()
foreach(part JPEG PNG WEBP ZLIB)  # the sources that the wheel has, not Debian's
    set(BUILD_${part} ON CACHE BOOL "")
endforeach()

# Two sorts of vector code are enough for what is done here: the least that any CPU has, and AVX2.
if(CMAKE_SYSTEM_PROCESSOR STREQUAL "aarch64" OR "$ENV{TARGETARCH}" STREQUAL "arm64")
    set(CPU_DISPATCH "" CACHE STRING "")
else()
    set(CPU_DISPATCH "AVX2" CACHE STRING "")
endif()
