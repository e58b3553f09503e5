/*
 * The web server of the test images: as `nginx` and as `httpd` it shows what critest looks for, and answers 200 to
 * every request. Usage: nginx|httpd [PORT]
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define MASTER "nginx: master process"

static void quit(int signal)
{
	(void)signal;
	_exit(0);
}

/* Listens on all addresses, of both families where the kernel has IPv6. */
static int listen_on(unsigned short port)
{
	int on = 1, off = 0;
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr *address = (struct sockaddr *)&six;
	socklen_t length = sizeof(six);
	int fd = socket(AF_INET6, SOCK_STREAM, 0);

	if (fd >= 0)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	else
		fd = socket(AF_INET, SOCK_STREAM, 0), address = (struct sockaddr *)&four, length = sizeof(four);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, address, length) < 0 || listen(fd, 128) < 0) {
		perror("listen");
		exit(1);
	}
	return fd;
}

static void answer(int fd)
{
	static const char reply[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
				    "Content-Length: 6\r\nConnection: close\r\n\r\nhello\n";
	struct timeval patience = { .tv_sec = 5 };
	char request[8192];
	size_t have = 0;
	ssize_t n;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	while (have < sizeof(request) - 1 && (n = read(fd, request + have, sizeof(request) - 1 - have)) > 0) {
		have += (size_t)n;
		request[have] = 0;
		if (strstr(request, "\r\n\r\n")) {
			if (write(fd, reply, sizeof(reply) - 1) < 0)
				perror("write");
			break;
		}
	}
	close(fd);
}

int main(int argc, char **argv)
{
	const char *port = argc > 1 ? argv[1] : "80";
	int listener;

	signal(SIGTERM, quit);
	signal(SIGQUIT, quit);
	signal(SIGINT, quit);
	signal(SIGPIPE, SIG_IGN);
	if (strstr(argv[0], "httpd")) {
		fprintf(stderr, "[core:notice] AH00094: Command line: 'httpd -D FOREGROUND'\n");
	} else if (strncmp(argv[0], MASTER, strlen(MASTER)) != 0) {
		/* The same process under the title that nginx gives to its first one. */
		execl("/proc/self/exe", MASTER " nginx -g daemon off;", port, (char *)NULL);
		perror("exec");
		return 1;
	}
	listener = listen_on((unsigned short)atoi(port));
	if (!strstr(argv[0], "httpd")) {
		FILE *file = fopen("/var/run/nginx.pid", "w");

		if (!file || fprintf(file, "%d\n", getpid()) < 0 || fclose(file) != 0) {
			perror("/var/run/nginx.pid");
			return 1;
		}
	}
	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fd >= 0)
			answer(fd);
	}
}
