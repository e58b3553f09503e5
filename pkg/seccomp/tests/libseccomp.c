/* Builds a filter with libseccomp from the lines on stdin and writes its BPF to stdout; for tests/libseccomp.rs. */
#include <errno.h>
#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(int rc, const char *what)
{
	if (rc < 0) {
		fprintf(stderr, "%s: %s\n", what, strerror(-rc));
		exit(1);
	}
}

int main(void)
{
	char word[64], name[64];
	uint32_t action;
	scmp_filter_ctx ctx = NULL;

	while (scanf("%63s", word) == 1) {
		if (!strcmp(word, "default") && scanf("%" SCNx32, &action) == 1) {
			ctx = seccomp_init(action);
			check(seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS), "badarch");
		} else if (!strcmp(word, "arch") && scanf("%63s", name) == 1) {
			int rc = seccomp_arch_add(ctx, seccomp_arch_resolve_name(name));
			if (rc != -EEXIST)
				check(rc, name);
		} else if (!strcmp(word, "rule")) {
			unsigned count, index, op;
			struct scmp_arg_cmp args[6];
			if (scanf("%" SCNx32 " %63s %u", &action, name, &count) != 3 || count > 6)
				return 2;
			for (unsigned i = 0; i < count; i++) {
				uint64_t a, b;
				if (scanf("%u %u %" SCNx64 " %" SCNx64, &index, &op, &a, &b) != 4)
					return 2;
				args[i] = (struct scmp_arg_cmp){ index, op, a, b };
			}
			int nr = seccomp_syscall_resolve_name(name);
			if (nr == __NR_SCMP_ERROR)
				continue;
			check(seccomp_rule_add_array(ctx, action, nr, count, args), name);
		} else {
			return 2;
		}
	}
	check(seccomp_export_bpf(ctx, 1), "export");
	return 0;
}
