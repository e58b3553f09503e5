/* Prints its effective user: installed set-uid root, it shows whether no_new_privs was set. */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	return printf("Effective uid: %d\n", (int)geteuid()) < 0;
}
