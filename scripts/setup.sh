#!/usr/bin/env bash
# Installs what the project needs and is missing: Debian packages with apt, and LibTorch into .deps/venv.
# Safe to run again; asks for nothing; does nothing where everything is there, network or not.
#
#   scripts/setup.sh            what building and running needs
#   scripts/setup.sh --tests    what scripts/test.sh uses beside that
#
# XCOMPOSER_TORCH_DIR=/path names a LibTorch of your own (2.6 or later) and nothing of it is downloaded.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly arguments=("$@")
readonly torch_version=2.11.0
readonly cpu_wheels=("torch==${torch_version}" nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85)
readonly cuda_wheels=(nvidia-cusparselt-cu13==0.8.0 nvidia-nvshmem-cu13==3.4.5 nvidia-cufile==1.15.1.6)

packages=(build-essential cmake ninja-build ccache pkg-config python3-venv ca-certificates
          nlohmann-json3-dev libspdlog-dev libcli11-dev libgtest-dev libgmock-dev libsentencepiece-dev
          libopencv-core-dev libopencv-imgproc-dev libopencv-imgcodecs-dev
          libjpeg-dev libpng-dev libtiff-dev libfreetype-dev libzmq3-dev cppzmq-dev libsodium-dev)
optional_packages=()
if [ "${1:-}" = "--tests" ]; then
  optional_packages=(clang openmpi-bin iproute2)
elif [ $# -gt 0 ]; then
  echo "usage: scripts/setup.sh [--tests]" >&2
  exit 2
fi

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# --- Debian packages -----------------------------------------------------------------------------------
is_installed() {
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null | head -c 9)" = installed ]
}

missing_of() {
  local name
  for name in "$@"; do is_installed "$name" || printf '%s ' "$name"; done
}

# Prints how to become root without being asked: nothing for root itself, "sudo" where it works; fails else.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    echo ""
  elif command -v sudo > /dev/null && sudo -n true 2> /dev/null; then
    echo "sudo"
  else
    return 1
  fi
}

# 1: nobody to install as; 2: apt could not.
apt_install() {
  local root
  root=$(as_root) || return 1
  say "installing: $*"
  mkdir -p .deps
  # shellcheck disable=SC2086  # an empty $root is no word
  if ! { $root apt-get update && $root env DEBIAN_FRONTEND=noninteractive \
           apt-get install -y --no-install-recommends "$@"; } > .deps/apt.log 2>&1; then
    tail -n 15 .deps/apt.log >&2
    say "apt-get could not install them; the whole output is in .deps/apt.log" >&2
    return 2
  fi
}

# What some tests use; without it they are skipped.
apt_install_optional() {
  [ $# = 0 ] || apt_install "$@" || say "not installed: $*; what needs it is skipped"
}

# clang's sanitizer and fuzzer libraries are a package of their own, named after clang's version.
clang_runtime() {
  local version
  version=$(clang -dumpversion 2> /dev/null | cut -d. -f1) || return 0
  if [ -n "$version" ] && apt-cache show "libclang-rt-${version}-dev" > /dev/null 2>&1; then
    echo "libclang-rt-${version}-dev"
  fi
}

install_packages() {
  if ! command -v dpkg-query > /dev/null; then
    say "this is neither Debian nor Ubuntu; make sure that you have what these packages carry:"
    say "  ${packages[*]}"
    return
  fi
  local missing optional
  missing=$(missing_of "${packages[@]}")
  # shellcheck disable=SC2086  # a list of words
  if [ -n "$missing" ]; then
    local code=0
    apt_install $missing || code=$?
    [ $code != 1 ] || fail "these packages are missing, and only root may install them. Run:
  sudo apt-get update && sudo apt-get install -y --no-install-recommends $missing"
    [ $code = 0 ] || fail "these packages are missing: $missing"
  fi
  [ ${#optional_packages[@]} -gt 0 ] || return 0
  optional=$(missing_of "${optional_packages[@]}")
  # shellcheck disable=SC2086
  apt_install_optional $optional
  # shellcheck disable=SC2046  # none or one word
  apt_install_optional $(missing_of $(clang_runtime))
}

# --- LibTorch --------------------------------------------------------------------------------------------
torch_folder() {
  local candidate
  for candidate in .deps/venv/lib/python3*/site-packages/torch; do
    [ -e "$candidate/lib/libtorch_cpu.so" ] && echo "$candidate" && return
  done
  return 0
}

# Whether a build with this LibTorch takes CUDA along: ON or OFF, and with what or why not.
cuda_of_build() {
  cmake -DTORCH_FOLDER="$1" -P cmake/Nvcc.cmake || echo "OFF cmake could not look for nvcc"
}

# As a module: the script bin/pip names its Python by the path where the environment was made.
pip() { .deps/venv/bin/python -m pip --disable-pip-version-check "$@"; }

# An environment whose Python is gone, as after an upgrade of the distribution, is made anew with all that
# is in it.
make_environment() {
  if [ -e .deps/venv ] && ! pip --version > /dev/null 2>&1; then
    say "the Python of .deps/venv does not work any more; making it anew"
    rm -rf .deps/venv
    exec scripts/setup.sh "${arguments[@]}"
  fi
  [ -e .deps/venv ] || python3 -m venv .deps/venv
}

# Only links against the libraries, so the wheels come without the Python packages that they ask for.
pip_install() {
  make_environment
  say "installing into .deps/venv: $*"
  if ! pip install --quiet --no-deps "$@" > .deps/pip.log 2>&1; then
    tail -n 15 .deps/pip.log >&2
    fail "pip could not install them; the whole output is in .deps/pip.log. With a LibTorch of your own:
  XCOMPOSER_TORCH_DIR=/path/to/libtorch $0"
  fi
}

# has_distribution NAME [VERSION]
has_distribution() {
  ls -d .deps/venv/lib/python3*/site-packages/"${1//-/_}"-"${2:-*}".dist-info > /dev/null 2>&1 ||
    ls -d .deps/venv/lib/python3*/site-packages/"${1//-/_}"-"${2:-*}"+*.dist-info > /dev/null 2>&1
}

install_wheels() {
  local wheel wanted=()
  for wheel in "$@"; do has_distribution "${wheel%%==*}" "${wheel##*==}" || wanted+=("$wheel"); done
  [ ${#wanted[@]} = 0 ] || pip_install "${wanted[@]}"
}

# The toolkit may carry cuDNN, NCCL and the mathematics libraries, or not. What the linker does not find
# comes from its own wheel, in the version that torch's metadata names.
install_missing_cuda_libraries() {
  local torch=$1 metadata library wheel
  metadata=$(ls -d "$(dirname "$torch")"/torch-*.dist-info)/METADATA
  for library in $(ldd "$torch/lib/libtorch_cuda.so" | awk '/not found/ {print $1}' | sort -u); do
    case $library in
      libcudnn*) wheel=nvidia-cudnn-cu13 ;;
      libnccl*) wheel=nvidia-nccl-cu13 ;;
      libcublas*) wheel=nvidia-cublas ;;
      libcufft*) wheel=nvidia-cufft ;;
      libcurand*) wheel=nvidia-curand ;;
      libcusolver*) wheel=nvidia-cusolver ;;
      libcusparse.*) wheel=nvidia-cusparse ;;
      libnvJitLink*) wheel=nvidia-nvjitlink ;;
      libcuda.so*) continue ;;  # the driver's, absent on machines without a GPU
      *) say "LibTorch's CUDA part needs $library and it was not found"; continue ;;
    esac
    has_distribution "$wheel" && continue
    pip_install "$(sed -n "s/^Requires-Dist: \(${wheel}==[^;]*\).*/\1/p" "$metadata" | grep . || echo "$wheel")"
  done
}

install_torch() {
  if [ -n "${XCOMPOSER_TORCH_DIR:-}" ]; then
    [ -e "$XCOMPOSER_TORCH_DIR/lib/libtorch_cpu.so" ] ||
      fail "XCOMPOSER_TORCH_DIR is '$XCOMPOSER_TORCH_DIR', but there is no lib/libtorch_cpu.so in it"
    say "LibTorch of your own: $XCOMPOSER_TORCH_DIR"
    return
  fi
  mkdir -p .deps
  install_wheels "${cpu_wheels[@]}"
  local torch
  torch=$(torch_folder)
  [ -n "$torch" ] || fail "the torch wheel holds no libtorch_cpu.so; remove .deps and run this again"
  local cuda
  cuda=$(cuda_of_build "$PWD/$torch")
  if [ "${cuda%% *}" = ON ]; then
    install_wheels "${cuda_wheels[@]}"
    install_missing_cuda_libraries "$torch"
  else
    say "builds are for CPUs only: ${cuda#* }"
  fi
  say "LibTorch ${torch_version} is in $torch"
}

install_packages
install_torch
say "everything is there"
