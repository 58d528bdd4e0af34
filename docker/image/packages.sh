#!/usr/bin/env bash
# Packages as TARGETARCH has them, whose hashes are those of the lock file.
#
#   packages.sh FOLDER            all but OpenCV, installed in FOLDER
#   packages.sh --opencv FOLDER   the published wheel of OpenCV, in FOLDER
#   packages.sh FOLDER WHEEL...   wheels that were made here, installed in FOLDER
set -euo pipefail
here=$(dirname "$0")
# shellcheck source-path=SCRIPTDIR
. "$here/target.sh"

options=(--quiet --no-cache-dir --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.11)
for tag in linux manylinux2014 manylinux_2_17 manylinux_2_26 manylinux_2_27 manylinux_2_28 manylinux_2_34; do
    options+=(--platform "${tag}_$machine")
done
locked() { awk "/^[A-Za-z0-9]/ { kept = $1/^opencv-python-headless==/ } kept" "$here/requirements.lock" >/tmp/locked.txt; }
if [ "$1" = --opencv ]; then
    locked ""
    exec python -m pip download "${options[@]}" --require-hashes --requirement /tmp/locked.txt --dest "$2"
fi
options+=(--no-compile --target "$1")
if [ $# -gt 1 ]; then
    exec python -m pip install "${options[@]}" "${@:2}"
fi
locked !
exec python -m pip install "${options[@]}" --require-hashes --requirement /tmp/locked.txt
