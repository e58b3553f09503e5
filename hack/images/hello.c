/*
 * The first container of everybody's tutorial: says that it ran, and where.
 */
#include <stdio.h>
#include <sys/utsname.h>

int main(void)
{
	struct utsname name;

	if (uname(&name) < 0) {
		perror("uname");
		return 1;
	}
	printf("Hello from a container!\nIts host name is %s, its kernel is %s %s.\n", name.nodename, name.sysname, name.release);
	return 0;
}
