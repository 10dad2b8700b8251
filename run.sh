#!/bin/sh
# The front door of PostDoDjango: makes the toolchain, then hands over to Ansible.
set -eu
caller=$PWD
# It may be called through links; the project is where the file itself is.
cd "$(dirname "$(realpath -- "$0")")"

usage() {
    cat <<'TABLE'
Usage: ./run.sh ENVIRONMENT [OPERATION] [ARGUMENTS for ansible-playbook ...]

  -0, prod    production
  -1, dev     development, the application in a container
  -2, host    development, the application on this host, with reload (Ctrl-C ends it)
  NAME        an environment of your own, in inventories/NAME

  OPERATION   one of the playbooks: status, logs, history, rollback, rehearse, lint, maintenance,
              update, images, teardown, backup, restore, drill, dump, load, pull-data; without
              one the environment is brought up. For example: ./run.sh -0 status
  manage      any Django command:        ./run.sh -1 manage createsuperuser
  psql        the database's own shell:  ./run.sh -1 psql

./run.sh test [all | NAME]   the checks, all of them in full, or one Molecule scenario in full
./run.sh new PATH            a fresh Django project, ready to be the application
TABLE
}

fail() {
    printf 'run.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

# The pinned toolchain in .venv, made again when its lock has changed or its making was cut short.
toolchain() {
    # Complete for this lock, made in this place, by a Python that is still the same.
    if cmp -s requirements.txt .venv/complete && [ -x "$(sed -n '1s/^#!//p' .venv/bin/pip)" ] &&
        .venv/bin/python -c 'import pip' 2>/dev/null; then
        return
    fi
    command -v python3 >/dev/null || fail 'python3 (3.11 or newer) is needed; install it first.'
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "Python 3.11 or newer is needed; this one is $(python3 -V)."
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        [ "$(id -u)" = 0 ] || fail 'the venv module is missing; type: sudo apt-get install python3-venv'
        echo 'Installing python3-venv ...'
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
    fi
    echo 'Making the toolchain in .venv (about half a minute, once) ...'
    python3 -m venv --clear .venv
    .venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.txt
    .venv/bin/uv pip install --quiet --python .venv/bin/python --require-hashes -r requirements.txt
    cp requirements.txt .venv/complete
}

# Where the host trusts more than Python's own list does (a proxy that inspects TLS), so do we.
bundle=/etc/ssl/certs/ca-certificates.crt
if [ -r "$bundle" ]; then
    export PIP_CERT="${PIP_CERT:-$bundle}" SSL_CERT_FILE="${SSL_CERT_FILE:-$bundle}"
fi
export POSTDO_CALLER="$caller" LC_ALL=C.UTF-8 UV_SYSTEM_CERTS=1 ANSIBLE_CONFIG="$PWD/ansible.cfg" PATH="$PWD/.venv/bin:$PATH"

play() {
    book=$1 inventory=$2
    shift 2
    # The shell has taken the quotes from -e NAME="a value with blanks"; Ansible needs them to see one value.
    for word; do
        shift
        case $word in
            *=*=* | *[\"\'\{]* | -* | @*) ;;
            *=*" "*) word="${word%%=*}='${word#*=}'" ;;
        esac
        set -- "$@" "$word"
    done
    # Without root, sudo is asked for its password once, if it wants one.
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null ||
            fail 'root is needed for the engine and the secrets: run this as root, or install sudo.'
        # What sudo remembers of this terminal does not count: Ansible's processes have none.
        sudo -k -n true 2>/dev/null || set -- --ask-become-pass "$@"
    fi
    ansible-playbook "$book" -i "inventories/$inventory" "$@"
}

case "${1:-}" in
    -0 | prod) inventory=prod ;;
    -1 | dev) inventory=dev ;;
    -2 | host) inventory=dev host=yes ;;
    test)
        shift
        toolchain
        exec ./tests/run "$@"
        ;;
    new)
        [ $# -eq 2 ] || fail 'say where the project goes: ./run.sh new PATH' 2
        # Relative to where the caller stands, not to this project.
        target=$(cd "$caller" && realpath -m -- "$2")
        toolchain
        exec ansible-playbook playbooks/new.yml -i localhost, -e "{\"new_path\": \"$target\"}"
        ;;
    -h | --help | '')
        usage
        exit 0
        ;;
    -* | */*)
        usage >&2
        fail "unknown argument: $1" 2
        ;;
    *)
        # An inventory of your own, such as inventories/staging.
        inventory=$1
        [ -f "inventories/$inventory/hosts.yml" ] || {
            usage >&2
            fail "unknown environment: $1 (there is no inventories/$1/hosts.yml)" 2
        }
        ;;
esac
shift
toolchain

case "${1:-}" in
    manage | psql)
        operation=$1
        shift
        if [ "${host:-}" ] && [ "$operation" = manage ]; then
            [ -x .cache/host/manage ] || fail 'the application was not yet run on this host: ./run.sh -2'
            exec .cache/host/manage "$@"
        fi
        terminal=$([ -t 0 ] && [ -t 1 ] && echo -it || echo -i)
        # As the role stack names it: by the inventory's directory, if the inventory does not say otherwise.
        name() {
            said=$(sed -n "s/^ *stack_$1: *[\"']\{0,1\}\([a-z0-9]*\).*/\1/p" \
                "inventories/$inventory/hosts.yml" "inventories/$inventory"/group_vars/all/*.yml | tail -n 1)
            echo "${said:-$2}"
        }
        prefix="$(name name postdo)-$(name environment "$inventory")"
        container=$prefix-db
        if [ "$operation" = manage ]; then
            # While one release takes another's place, it is the one that was there before: the engine lists it last.
            container=$(docker ps --format '{{.Names}}' --filter "label=postdo.stack=$prefix" \
                --filter label=postdo.process=web 2>/dev/null | tail -n 1)
            container=${container:-$prefix-web}
        fi
        case "$(docker inspect --type container --format '{{.State.Running}}' "$container" 2>&1)" in
            true) ;;
            *denied*) fail "the engine is root's: use sudo ./run.sh, or an account in the group docker." ;;
            *) fail "$container is not running; start it: ./run.sh $inventory" ;;
        esac
        if [ "$operation" = psql ]; then
            label() { docker inspect --format "{{index .Config.Labels \"postdo.$1\"}}" "$container"; }
            # As the application's role; SET ROLE NONE makes you the superuser.
            exec docker exec "$terminal" --env PGOPTIONS="-c role=$(label role)" "$container" \
                psql --dbname="$(label database)" "$@"
        fi
        exec docker exec "$terminal" "$container" python manage.py "$@"
        ;;
    '' | -*)
        if [ "${host:-}" ]; then
            play playbooks/host.yml "$inventory" --skip-tags django_web,boot,summary "$@"
            exec .cache/host/manage
        fi
        play site.yml "$inventory" "$@"
        ;;
    *)
        operation=$1
        shift
        # Those of -2 and new are no operations.
        if [ ! -f "playbooks/$operation.yml" ] || [ "$operation" = host ] || [ "$operation" = new ]; then
            usage >&2
            fail "unknown operation: $operation" 2
        fi
        case $operation in
            status | logs) export POSTDO_QUIET=true ;;
        esac
        play "playbooks/$operation.yml" "$inventory" "$@"
        ;;
esac
