/* A program that ends at once: on Windows, there is none. */
int main(void) { return 0; }
