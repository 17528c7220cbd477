#!/usr/bin/env bash
# Succeeds where windows can be shown.
set -euo pipefail

case "$(uname -s)" in
    Darwin | MINGW* | MSYS* | CYGWIN*) [ -z "${SSH_CONNECTION:-}" ] ;;
    *)
        [ "${QT_QPA_PLATFORM:-}" != offscreen ] || exit 1
        [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ] || exit 1
        case "${DISPLAY:-}" in # a container may have inherited the name without the display
            :*) screen=${DISPLAY#:} && [ -e "/tmp/.X11-unix/X${screen%%.*}" ] ;;
        esac
        ;;
esac
