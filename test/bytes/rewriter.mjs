// Replaces a file over and over until it is killed: the file, its size in bytes, and
// `force` to replace one; without it, files with numbers.
import { AtomicFile } from '../../dist/index.js';

const [target, size] = [process.argv[2], Number(process.argv[3])];
const force = process.argv[4] === 'force';
for (let turn = 0; ; turn++) {
  const path = force ? target : `${target}-${turn}`;
  const file = await AtomicFile.create(path, { force });
  if (turn === 0) process.stdout.write('begun\n');
  const bytes = Buffer.alloc(4096, 1 + (turn % 255));
  for (let at = 0; at < size; at += bytes.length) await file.append(bytes);
  await file.commit();
}
