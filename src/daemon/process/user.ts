/** Who varpd runs as, beside who it should: root becomes that user before anything else (root.ts), and nobody else can. */
import { OverlayError } from '../../model/errors.js';
import { placeOf } from '../config-file.js';
import { type Config, DEFAULT_USER } from '../config.js';
import { account } from './accounts.js';

/**
 * What an operator should know of it: undefined when all is as it should be. Throws an OverlayError when this process is another
 * than the one that the configuration names. Without a name there it may be anybody.
 */
export function userRemark(config: Config): string | undefined {
  const own = process.geteuid?.() ?? 0;
  const place = placeOf(config, 'user');
  const name = config.user ?? DEFAULT_USER;
  const isChosen = place !== '' && config.user !== null;
  if (own !== 0 && !isChosen) return undefined;
  // A user that is not there yet keeps nobody from restarting.
  if (isChosen && account(name, place).uid === own) return undefined;
  if (own === 0)
    return `user: varpd goes on as root, since it was started as root by an older version, or to be root: only a stop and a start make it '${name}'`;
  throw new OverlayError('DENIED', `${place}user: only root can become '${name}', and this is user ${own}`);
}
