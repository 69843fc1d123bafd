// Runs short commands for a test: Node copies its page tables for each program that it starts, which takes ten times as long as to
// start most of them.
//
// Standard input has requests: length of the rest, kind, id (three numbers of 32 bits, of this machine); then, to run (0): how many
// arguments, how many variables, bytes of input, each argument, each variable and the directory ("": this one), all with a zero
// behind, and the input; to kill (1): nothing. Standard output has, once a program has ended and its output is read: length of the
// rest, id, the status of wait(2), bytes of its standard output, and both outputs.
//
// All programs end when this one does, and this one when its input does.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

struct buffer {
  char *bytes;
  size_t used, room;
};

struct job {
  uint32_t id;
  pid_t pid;
  int status;
  int has_ended;
  int fds[2]; // its standard output and standard error; -1: closed
  struct buffer said[2];
};

enum { CHUNK = 65536, MAX_JOBS = 1024 };
enum { RUN, KILL };

static struct job jobs[MAX_JOBS];
static int job_count;
static struct buffer requests;

static void die(const char *what) {
  fprintf(stderr, "runner: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void reserve(struct buffer *buffer, size_t more) {
  if (buffer->used + more <= buffer->room) return;
  buffer->room = 2 * (buffer->used + more);
  buffer->bytes = realloc(buffer->bytes, buffer->room);
  if (!buffer->bytes) die("memory");
}

// What is there. Returns 0 at the end.
static int take(int fd, struct buffer *into) {
  reserve(into, CHUNK);
  ssize_t count = read(fd, into->bytes + into->used, CHUNK);
  if (count < 0 && (errno == EINTR || errno == EAGAIN)) return 1;
  if (count > 0) into->used += count;
  return count > 0;
}

static void say(const void *bytes, size_t length) {
  for (const char *at = bytes; length > 0;) {
    ssize_t count = write(1, at, length);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) exit(1); // the test has ended
    at += count;
    length -= count;
  }
}

// `at` is behind the id.
static void run(uint32_t id, const char *at) {
  uint32_t counts[3];
  memcpy(counts, at, sizeof counts);
  at += sizeof counts;
  char **words[2];
  for (int list = 0; list < 2; list++) {
    words[list] = calloc(counts[list] + 1, sizeof(char *));
    if (!words[list]) die("memory");
    for (uint32_t index = 0; index < counts[list]; index++, at += strlen(at) + 1) words[list][index] = (char *)at;
  }
  const char *directory = at;
  at += strlen(at) + 1;
  int input = counts[2] > 0 ? memfd_create("input", MFD_CLOEXEC) : open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (input < 0) die("input");
  for (uint32_t written = 0; written < counts[2];) {
    ssize_t count = write(input, at + written, counts[2] - written);
    if (count < 0) die("input");
    written += count;
  }
  lseek(input, 0, SEEK_SET);
  int output[2], errors[2];
  if (job_count == MAX_JOBS || pipe2(output, O_CLOEXEC) || pipe2(errors, O_CLOEXEC)) die("too many commands");
  pid_t parent = getpid();
  pid_t pid = fork();
  if (pid < 0) die("fork");
  if (pid == 0) {
    dup2(input, 0);
    dup2(output[1], 1);
    dup2(errors[1], 2);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);
    signal(SIGPIPE, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    environ = words[1];
    if (*directory && chdir(directory) != 0)
      dprintf(2, "%s: %s\n", directory, strerror(errno));
    else if (execvp(words[0][0], words[0]) != 0)
      dprintf(2, "failed to execute %s: %s\n", words[0][0], strerror(errno));
    _exit(127);
  }
  close(input);
  close(output[1]);
  close(errors[1]);
  for (int list = 0; list < 2; list++) free(words[list]);
  jobs[job_count++] = (struct job){.id = id, .pid = pid, .fds = {output[0], errors[0]}};
}

// Does what was asked for so far.
static void obey(void) {
  size_t done = 0;
  uint32_t head[3]; // length of the rest, kind, id
  while (requests.used - done >= sizeof head) {
    memcpy(head, requests.bytes + done, sizeof head);
    size_t end = done + sizeof head[0] + head[0];
    if (end > requests.used) break;
    if (head[1] == RUN) run(head[2], requests.bytes + done + sizeof head);
    for (int index = 0; head[1] == KILL && index < job_count; index++)
      if (jobs[index].id == head[2] && !jobs[index].has_ended) kill(jobs[index].pid, SIGKILL);
    done = end;
  }
  requests.used -= done;
  memmove(requests.bytes, requests.bytes + done, requests.used);
}

static void reap(void) {
  int status;
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
    for (int index = 0; index < job_count; index++)
      if (jobs[index].pid == pid && !jobs[index].has_ended) {
        jobs[index].has_ended = 1;
        jobs[index].status = status;
      }
}

static void report(void) {
  for (int index = 0; index < job_count; index++) {
    struct job *job = &jobs[index];
    if (!job->has_ended || job->fds[0] >= 0 || job->fds[1] >= 0) continue;
    uint32_t head[] = {3 * 4, job->id, job->status, job->said[0].used};
    head[0] += job->said[0].used + job->said[1].used;
    say(head, sizeof head);
    for (int fd = 0; fd < 2; fd++) {
      say(job->said[fd].bytes, job->said[fd].used);
      free(job->said[fd].bytes);
    }
    *job = jobs[--job_count];
    index--;
  }
}

int main(void) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  signal(SIGPIPE, SIG_IGN);
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGCHLD);
  sigprocmask(SIG_BLOCK, &ends, NULL);
  int ended = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
  if (ended < 0) die("signalfd");
  for (;;) {
    struct pollfd fds[2 + 2 * MAX_JOBS] = {{.fd = 0, .events = POLLIN}, {.fd = ended, .events = POLLIN}};
    for (int index = 0; index < 2 * job_count; index++)
      fds[2 + index] = (struct pollfd){.fd = jobs[index / 2].fds[index % 2], .events = POLLIN};
    int watched = job_count;
    if (poll(fds, 2 + 2 * watched, -1) < 0 && errno != EINTR) die("poll");
    for (int index = 0; index < 2 * watched; index++) {
      struct job *job = &jobs[index / 2];
      if (fds[2 + index].revents == 0 || take(job->fds[index % 2], &job->said[index % 2])) continue;
      close(job->fds[index % 2]);
      job->fds[index % 2] = -1;
    }
    if (fds[1].revents) {
      struct signalfd_siginfo info;
      while (read(ended, &info, sizeof info) > 0)
        ;
      reap();
    }
    report();
    if (fds[0].revents == 0) continue;
    if (!take(0, &requests)) break;
    obey();
  }
  for (int index = 0; index < job_count; index++)
    if (!jobs[index].has_ended) kill(jobs[index].pid, SIGKILL);
  return 0;
}
