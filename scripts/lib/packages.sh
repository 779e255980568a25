# The Debian packages that Tandem's build, tests and demonstrations need, and their installation.
#
# To be sourced by bash:   . scripts/lib/packages.sh; tandem_install_packages [build|test|browser|demo|fuzz|develop …]
# With no group named, build, test and demo are meant. When nothing is missing, nothing is called but dpkg-query.

# To compile and link.
tandem_packages_build=(
  g++ gcc cmake ninja-build ccache pkg-config
  libboost1.81-dev libspdlog-dev libcli11-dev libtomlplusplus-dev nlohmann-json3-dev libxxhash-dev libncurses-dev
  prometheus-cpp-dev
)
# To run the tests: test libraries, real QEMU, the guest image's parts, network tools.
tandem_packages_test=(
  qemu-system-x86 libgtest-dev libgmock-dev librapidcheck-dev libbenchmark-dev
  cpio lz4 xz-utils zstd binutils libc6-dev iproute2 redis-tools util-linux procps python3 groff-base tcpdump gnuplot-nox
)
# To look at the page in a browser: 80 MB to fetch, and a few seconds to install.
tandem_packages_browser=(chromium)
# To run the demonstrations. redis-tools holds the server's program, too; the package redis-server would
# start a service on this host, which nobody asked for.
tandem_packages_demo=(qemu-system-x86 cpio lz4 xz-utils binutils libc6-dev gcc iproute2 redis-tools)
# To run the fuzzers, and to keep the code in form.
tandem_packages_fuzz=(clang-14 libclang-rt-14-dev)
tandem_packages_develop=(clang-format-14 clang-tidy-14)

# tandem_missing_packages GROUP…: prints those that are not installed, one a line.
tandem_missing_packages() {
  local -A installed=()
  local -a wanted=()
  local group name status
  for group in "$@"; do
    local -n members="tandem_packages_$group"
    wanted+=("${members[@]}")
  done
  while read -r name status; do
    [[ $status == *installed ]] && [[ $status != *not-installed ]] && installed[$name]=1
  done < <(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${wanted[@]}" 2>/dev/null)
  for name in "${wanted[@]}"; do
    # A package may be named in two groups, but is installed once.
    if [[ -z ${installed[$name]:-} ]]; then
      installed[$name]=1
      printf '%s\n' "$name"
    fi
  done
}

# tandem_install_packages [GROUP…]: installs what is missing. Fails, saying which command to run, if it may not.
tandem_install_packages() {
  local -a groups=("$@") missing=() prefix=()
  ((${#groups[@]})) || groups=(build test demo)
  if ! command -v dpkg-query >/dev/null; then
    echo "packages: this is not a Debian system; install the equivalents of: $(
      IFS=' '; echo "${tandem_packages_build[*]} ${tandem_packages_test[*]}")" >&2
    return 1
  fi
  mapfile -t missing < <(tandem_missing_packages "${groups[@]}")
  ((${#missing[@]})) || return 0
  if ((EUID != 0)); then
    if command -v sudo >/dev/null; then
      prefix=(sudo)
    else
      echo "packages: not root, and there is no sudo. As root, run:" >&2
      echo "  apt-get update && apt-get install -y --no-install-recommends ${missing[*]}" >&2
      return 1
    fi
  fi
  echo "packages: installing ${missing[*]}" >&2
  "${prefix[@]}" apt-get update -q >&2 &&
    "${prefix[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -q --no-install-recommends "${missing[@]}" >&2
}
