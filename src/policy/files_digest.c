/* SHA-256 over (path, length, bytes) of each file: who quarantines a bundle by its digest, or lets
 * one take over by it, means exactly these files. */
#include "policy/files_priv.h"

#include <openssl/evp.h>
#include <string.h>

/* A text that ends with its NUL, or bytes behind their number. */
static bool add_file(EVP_MD_CTX *sum, const struct osm_policy_file *f)
{
    unsigned char len[8];
    for (size_t i = 0; i < sizeof len; i++)
        len[i] = (unsigned char)((uint64_t)f->len >> 8 * i);
    return EVP_DigestUpdate(sum, f->path, strlen(f->path) + 1) == 1 &&
           EVP_DigestUpdate(sum, len, sizeof len) == 1 &&
           (!f->text || EVP_DigestUpdate(sum, f->text, f->len) == 1);
}

int osm__policy_files_digest(struct osm_policy_files *files)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned int n = 0;
    EVP_MD_CTX *sum = EVP_MD_CTX_new();
    bool ok = sum && EVP_DigestInit_ex(sum, EVP_sha256(), NULL) == 1;
    for (size_t i = 0; ok && i < files->len; i++)
        ok = add_file(sum, &files->list[i]);
    ok = ok && EVP_DigestFinal_ex(sum, bytes, &n) == 1 && n * 2 + 1 == sizeof files->digest;
    EVP_MD_CTX_free(sum);
    for (size_t i = 0; ok && i < n; i++) {
        files->digest[2 * i] = digits[bytes[i] >> 4];
        files->digest[2 * i + 1] = digits[bytes[i] & 15];
    }
    return ok ? 0 : OSM_ENOMEM;
}
