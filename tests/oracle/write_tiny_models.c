/*
 * write_tiny_models DIR: every tiny model as DIR/<name>.gguf and DIR/<name>/ (safetensors), for the reference scripts.
 * write_tiny_models DIR FAMILY: DIR/FAMILY/, one of tests/oracle/families; run where the sources are.
 * Owner: the caller owns the files. Lifetime: the process.
 */
#include <stdio.h>

#include "support/family_model.h"
#include "support/tiny_model.h"

int main(int argc, char **argv)
{
    if (argc != 2 && argc != 3) {
        fprintf(stderr, "usage: write_tiny_models DIR [FAMILY]\n");
        return 2;
    }
    if (argc == 3) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", argv[1], argv[2]);
        family_model_write(argv[2], path);
        return 0;
    }
    for (size_t i = 0; tiny_model_at(i); i++) {
        char path[4096];
        const tiny_model *model = tiny_model_at(i);
        snprintf(path, sizeof path, "%s/%s.gguf", argv[1], model->name);
        tiny_model_write_gguf(model, NULL, path);
        snprintf(path, sizeof path, "%s/%s", argv[1], model->name);
        tiny_model_write_safetensors(model, &(tiny_options){.shards = i % 2 ? 2 : 1}, path);
        printf("%s\n", model->name);
    }
    return 0;
}
