typedef int empty; /* A library without OrtGetApiBase. */
