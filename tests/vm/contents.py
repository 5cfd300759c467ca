"""What the image holds, in one place: add a name here when a test needs it. Lists are words; patterns are the shell's.

Everything has the same path inside as on this machine: the interpreter, the virtual environment, the repository.
"""

# Commands of this machine, with the shared libraries they need; one that this machine lacks is left out.
# Every other command is busybox: static, so quick to start.
TOOLS = """
    bash criu date diff env findmnt getent head ip ip6tables-restore ipcmk ipcs iptables-restore ldd ls lsns mount
    newgidmap newuidmap nft nsenter pgrep ping prlimit ps readlink setpriv setsid sh stat tail tar taskset timeout
    umount unshare wc
"""
SETUID = "newgidmap newuidmap"

# Other files of this machine, which no tool is linked to: iptables, with which criu stops a network.
FILES = """
    /usr/lib/*/xtables/libxt_mark.so /usr/lib/*/xtables/libxt_standard.so
"""

# Commands that the harness and its tests can't do without, and Debian's packages of them: installed when missing.
PACKAGES = {
    "busybox": "busybox-static",
    "dpkg": "dpkg",
    "ip": "iproute2",
    "mke2fs": "e2fsprogs",
    "newuidmap": "uidmap",
    "nft": "nftables",
    "qemu-system-x86_64": "qemu-system-x86",
    "setpriv": "util-linux",
}

# Debian 12's kernel for virtual machines: every cgroup v2 controller, and no erofs from plain files (6.12).
KERNEL_PACKAGE = r"linux-image-6\.1\.0-[0-9]+-cloud-amd64"

# Kernel modules; what they need comes along. The init loads those of the disk, the kernel calls for the others.
MODULES = """
    bfq bridge dummy erofs fuse ipvlan loop macvlan overlay squashfs tun veth virtio_blk virtio_pci
    nf_conntrack_netlink nf_tables nft_* xt_MASQUERADE xt_addrtype xt_comment xt_conntrack xt_mark xt_nat xt_tcpudp
    *_diag
"""

# Distributions installed for the running interpreter; what they require comes along.
DISTRIBUTIONS = "kist pytest hypothesis"

# Left out: paths relative to the standard library, and to the repository.
NOT_OF_PYTHON = """
    *__pycache__ *.a __phello__ config-* dist-packages site-packages distutils ensurepip idlelib lib2to3 pydoc_data
    test tkinter turtle.py turtledemo */test */tests lib-dynload/_test* lib-dynload/_tkinter* lib-dynload/xxlimited*
"""
NOT_OF_REPOSITORY = ".* *__pycache__ *.egg-info build dist tests/vm"

# Files of /etc.
ETC = {
    "passwd": "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    "group": "root:x:0:\ntty:x:5:\nuser:x:1000:\nnogroup:x:65534:\n",
    "subuid": "user:100000:65536\n",
    "subgid": "user:100000:65536\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "hostname": "kist-vm\n",
    "hosts": "127.0.0.1 localhost kist-vm\n::1 localhost\n",
    "resolv.conf": "",
    "os-release": 'PRETTY_NAME="kist test machine"\n',
}

# Those that only root may read.
ETC_SECRET = {"shadow": "root:*:::::::\n"}
