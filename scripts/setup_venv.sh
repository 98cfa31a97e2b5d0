# Sourced by the other scripts: a virtual environment in .venv with this package and the extras named.
# Installs only when something is missing or setup.cfg has changed.
setup_venv() {
  local extras="$1" python="${PYTHON:-python3}" stamp wanted
  stamp=".venv/.torchcam-suite-${extras//,/-}"
  wanted="$(cksum setup.cfg pyproject.toml)"
  if [ ! -x .venv/bin/python ]; then
    echo "making .venv" >&2
    "$python" -m venv .venv
  fi
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "installing into .venv (torch and TensorFlow are large: a few minutes the first time)" >&2
    .venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --upgrade pip
    .venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check -e ".[$extras]"
    echo "$wanted" > "$stamp"
  fi
}
