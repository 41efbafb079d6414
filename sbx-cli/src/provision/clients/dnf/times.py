# Gives the packages of rpm's last transaction the times that rpm 4.18 and newer give them: SOURCE_DATE_EPOCH, and a second more for
# each. Argument: the directory of the database. A header is "lib/header.c" of rpm has it: the number of entries and the length of
# the data, entries of tag, type, offset and count, the data.
import os, sqlite3, struct, sys

INSTALL_TIME, INSTALL_TID = 1008, 1128
epoch = int(os.environ["SOURCE_DATE_EPOCH"])


def places(header):
    entries, _ = struct.unpack_from(">II", header)
    for index in range(entries):
        tag, _, offset, _ = struct.unpack_from(">IIII", header, 8 + 16 * index)
        if tag in (INSTALL_TIME, INSTALL_TID):
            yield tag, 8 + 16 * entries + offset


def transaction(header):
    return {tag: struct.unpack_from(">I", header, place)[0] for tag, place in places(header)}.get(INSTALL_TID)


database = sqlite3.connect(os.path.join(sys.argv[1], "rpmdb.sqlite"), isolation_level=None)
packages = database.execute("SELECT hnum, blob FROM Packages ORDER BY hnum").fetchall()
last = transaction(packages[-1][1])
database.execute("BEGIN")
for step, (number, header) in enumerate(row for row in packages if transaction(row[1]) == last):
    changed = bytearray(header)
    for tag, place in places(header):
        struct.pack_into(">I", changed, place, epoch + step if tag == INSTALL_TIME else epoch)
    database.execute("UPDATE Packages SET blob = ? WHERE hnum = ?", (bytes(changed), number))
    database.execute("UPDATE Installtid SET key = ? WHERE hnum = ?", (struct.pack("=I", epoch), number))
database.execute("COMMIT")
# Nothing stays of the old times in pages that are not full.
database.execute("VACUUM")
database.close()
