/* Resolve names by musl's getaddrinfo at the servers of a resolv.conf of one's own.
 *
 * Usage: RESOLV_CONF=FILE musl NAME...
 *
 * musl reads /etc/resolv.conf, which is the machine's. In a static program the function by which it
 * opens configuration can be another one; all else is musl as it is. */

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

FILE *__fopen_rb_ca(const char *name, FILE *file, unsigned char *buffer, size_t size) {
    return fopen(strcmp(name, "/etc/resolv.conf") ? name : getenv("RESOLV_CONF"), "rb");
}

int main(int count, char **names) {
    for (int i = 1; i < count; i++) {
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
        int error = getaddrinfo(names[i], NULL, &hints, &found);
        if (error) {
            printf("error: %s\n", gai_strerror(error));
            continue;
        }
        for (struct addrinfo *each = found; each; each = each->ai_next) {
            char text[INET6_ADDRSTRLEN];
            getnameinfo(each->ai_addr, each->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST);
            printf("%s ", text);
        }
        printf("\n");
        freeaddrinfo(found);
    }
    return 0;
}
