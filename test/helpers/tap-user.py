"""Somebody who has a descriptor on a TAP, or tries to get one, and does what lines on stdin say.

    tap-user.py NODE DEVICE single|multi        attaches by a device node such as /dev/net/tun
    tap-user.py PID DEVICE steal                takes a descriptor that this process has on it (root)
    tap-user.py NODE DEVICE race                attaches again and again, until stdin ends

A fourth argument is the user whom it becomes first.
Says `ready` or the errno of what failed, then of each line `KIND [VALUE]` what came of it: a number, or the errno.
"""
import ctypes, errno, fcntl, os, select, struct, sys

TAP, NO_PI, VNET_HDR, MULTI_QUEUE = 0x0002, 0x1000, 0x4000, 0x0100
SETIFF = 0x400454CA
BY_VALUE = {'persist': 0x400454CB, 'owner': 0x400454CC, 'group': 0x400454CE, 'offload': 0x400454D0}
BY_POINTER = {'sndbuf': 0x400454D4, 'header': 0x400454D8, 'little': 0x400454DC, 'carrier': 0x400454E2}
GET = {'get-sndbuf': 0x800454D3, 'get-header': 0x800454D7, 'get-little': 0x800454DD}
SETTXFILTER, SETSTEERING, SETFILTEREBPF = 0x400454D1, 0x800454E0, 0x800454E1
SYS_PIDFD_GETFD = 438


def say(text):
    print(text, flush=True)


def attach(node, device, flags):
    fd = os.open(node, os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.ioctl(fd, SETIFF, struct.pack('16sH22x', device.encode(), TAP | NO_PI | VNET_HDR | flags))
    except OSError:
        os.close(fd)
        raise
    return fd


def steal(pid, device):
    for number in sorted(os.listdir(f'/proc/{pid}/fdinfo'), key=int):
        if f'iff:\t{device}\n' in open(f'/proc/{pid}/fdinfo/{number}').read():
            fd = ctypes.CDLL(None, use_errno=True).syscall(SYS_PIDFD_GETFD, os.pidfd_open(pid), int(number), 0)
            if fd < 0:
                raise OSError(ctypes.get_errno(), 'pidfd_getfd')
            return fd
    raise OSError(errno.ENODEV, device)


def race(node, device):
    """Holds what it gets until the device is gone."""
    got = 0
    say('ready')
    while not select.select([sys.stdin], [], [], 0)[0]:
        try:
            fd = attach(node, device, MULTI_QUEUE)
        except OSError:
            continue
        got += 1
        try:
            while not select.select([sys.stdin], [], [], 0)[0]:
                fcntl.ioctl(fd, GET['get-header'], bytes(4))
        except OSError:
            pass
        os.close(fd)
    say(got)


def do(fd, kind, value):
    if kind in BY_VALUE:
        fcntl.ioctl(fd, BY_VALUE[kind], value)
    elif kind in BY_POINTER:
        fcntl.ioctl(fd, BY_POINTER[kind], struct.pack('i', value))
    elif kind in GET:
        return struct.unpack('i', fcntl.ioctl(fd, GET[kind], bytes(4)))[0]
    elif kind == 'txfilter':  # frames for this one address alone
        fcntl.ioctl(fd, SETTXFILTER, struct.pack('HH6s', 0, 1, bytes([2, 0, 0, 0, 0, value])))
    elif kind == 'read':  # what waits in its queue
        try:
            os.read(fd, 65536)
            return 1
        except BlockingIOError:
            return 0
    else:
        raise OSError(errno.EINVAL, kind)
    return 0


def main():
    place, device, how, *user = sys.argv[1:]
    for uid in map(int, user):  # its capabilities go with root
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    try:
        if how == 'race':
            return race(place, device)
        fd = steal(int(place), device) if how == 'steal' else attach(place, device, MULTI_QUEUE if how == 'multi' else 0)
    except OSError as error:
        return say(errno.errorcode[error.errno] if error.errno in errno.errorcode else error.errno)
    say('ready')
    for line in sys.stdin:
        kind, value = (line.split() + ['0'])[:2]
        try:
            say(do(fd, kind, int(value)))
        except OSError as error:
            say(errno.errorcode[error.errno])


main()
