/*
 * The smallest user of the installed library: prints its version and an error it gets for a file that is not there.
 * Owner: the test. Lifetime: the process.
 */
#include <mlxr.h>

#include <stdio.h>
#include <string.h>

int main(void)
{
    char *json = NULL;
    mlxr_error error = {0};
    if (mlxr_model_describe("/nonexistent/model.gguf", &json, &error) != MLXR_IO || !error.text[0]) {
        fprintf(stderr, "an absent model gave status %d: %s\n", (int)error.status, error.text);
        return 1;
    }
    puts(mlxr_version());
    return strcmp(mlxr_version(), MLXR_VERSION) != 0;
}
