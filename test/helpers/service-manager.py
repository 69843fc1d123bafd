# A service manager as systemd is one to its services: sd_notify(3), watchdog, descriptor store, sd_listen_fds(3). It is
# written from the manuals, in another language than varpd, since Node cannot receive descriptors.
#
#   python3 service-manager.py NOTIFY_SOCKET COMMAND...
#
# Every message of the service becomes a line of JSON on standard output, and so do its starts and ends. On standard input:
# "restart" ends the service by SIGTERM and starts it again with what it stored, as `systemctl restart` does, "kill" the same
# by SIGKILL; "deaf" closes its socket, so that whoever tells it something is refused; at the end of input it ends for good.
# The store is emptied as systemd does it: on request alone, or at the end.
import array
import ctypes
import json
import os
import platform
import select
import signal
import socket
import sys

KCMP = {"x86_64": 312, "aarch64": 272}[platform.machine()]
KCMP_FILE = 0
libc = ctypes.CDLL(None)

path, command = sys.argv[1], sys.argv[2:]
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind(path)
os.chmod(path, 0o777)
listeners = [listener]
store = []


def say(**values):
    print(json.dumps(values), flush=True)


def is_same(one, other):
    return libc.syscall(KCMP, os.getpid(), os.getpid(), KCMP_FILE, one, other) == 0


def start():
    pid = os.fork()
    if pid == 0:
        high = [os.dup2(fd, 500 + at) for at, (_, fd) in enumerate(store)]
        for at, fd in enumerate(high):
            os.dup2(fd, 3 + at)
            os.close(fd)
        os.closerange(3 + len(high), 500)
        env = dict(os.environ, NOTIFY_SOCKET=path, FDSTORE="64")
        if high:
            names = ":".join(name for name, _ in store)
            env.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(high)), LISTEN_FDNAMES=names)
        os.execvpe(command[0], command, env)
    say(started=pid, passed=[name for name, _ in store])
    return pid


def receive():
    size = array.array("i", range(64))
    text, control, _, _ = listener.recvmsg(4096, socket.CMSG_SPACE(size.itemsize * 64))
    fds = array.array("i")
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    message = dict(line.split("=", 1) for line in text.decode().split("\n") if "=" in line)
    if message.get("FDSTORE") == "1":
        name = message.get("FDNAME", "stored")
        for fd in fds:
            # As systemd does it: a file that it has stays under the name that it was given first.
            if any(is_same(item[1], fd) for item in store):
                os.close(fd)
            else:
                store.append((name, fd))
    elif message.get("BARRIER") == "1":
        for fd in fds:
            os.close(fd)
    elif message.get("FDSTOREREMOVE") == "1":
        for item in [item for item in store if item[0] == message.get("FDNAME")]:
            os.close(item[1])
            store.remove(item)
    say(message=message, fds=len(fds))


def pump(seconds):
    ready, _, _ = select.select([*listeners, 0], [], [], seconds)
    if listener in ready:
        receive()
    return 0 in ready


def end(pid, how):
    os.kill(pid, how)
    _, status = os.waitpid(pid, 0)
    while select.select(listeners, [], [], 0)[0]:
        receive()
    say(ended=os.waitstatus_to_exitcode(status))


signal.signal(signal.SIGTERM, lambda *_: sys.exit(os.kill(service, signal.SIGKILL)))
service = start()
while True:
    if not pump(1):
        continue
    line = sys.stdin.readline()
    if line == "deaf\n":
        listeners.clear()
        listener.close()
        say(deaf=True)
        continue
    end(service, signal.SIGKILL if line == "kill\n" else signal.SIGTERM)
    if line == "":
        break
    service = start()
