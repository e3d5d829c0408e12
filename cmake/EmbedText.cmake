# cmake -DINPUT=FILE -DOUTPUT=HEADER -DNAME=name -P EmbedText.cmake: a text file as a NUL-terminated C array.
file(READ ${INPUT} bytes HEX)
string(REGEX REPLACE "(................................)" "\\1\n" bytes "${bytes}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
file(WRITE ${OUTPUT} "static const char ${NAME}[] = {\n${bytes} 0};\n")
