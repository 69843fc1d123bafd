// Superframes that leave whole, as tunnel frames, to the kernel's vxlan: right bytes and headers. `full/tunnel-offload.test.ts`
// has the rest.
import t from 'tap';

import { tunnelFrames } from '../helpers/tunnel-frames.js';
import { skip } from '../helpers/tunnel-offload.js';

t.test('frames over IPv4', { skip }, (t) => tunnelFrames(t, 'v4'));
