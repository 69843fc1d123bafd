/*
 * Runs a program in a Landlock domain of its own:
 *
 *   confine PROGRAM ARGUMENT...       descriptor 4: the ruleset
 *
 * Landlock holds for the thread that asks for it, and for all that this thread starts. Node has several threads before any
 * JavaScript runs, so a plugin process is confined before it becomes Node. no_new_privs must be set. The status is 126
 * when the kernel refuses the domain, and 127 when there is no such program.
 */
#include <err.h>
#include <unistd.h>

enum { RULESET = 4, RESTRICT_SELF = 446 };

int main(int argc, char **argv)
{
	if (argc < 2 || syscall(RESTRICT_SELF, RULESET, 0) < 0)
		err(126, "landlock_restrict_self");
	close(RULESET);
	execv(argv[1], argv + 1);
	err(127, "%s", argv[1]);
}
