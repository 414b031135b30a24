#!/usr/bin/env bash
# The part of the set-up on the device that is this flatpack's own. build.sh sources it last, in the flatpack's folder,
# with DEVICE, OS, VENV_PYTHON, VENV_PIP, WORK_DIR and FLATPACK_THREADS set (device.sh says what they are). For example:
#
#   "$VENV_PYTHON" scripts/prepare.py --out "$WORK_DIR"
